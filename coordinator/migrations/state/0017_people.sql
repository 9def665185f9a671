-- People: accounts, how they sign in, and whose token a token is.

create table user_account (
    id text primary key,
    name text not null unique,
    -- The name in lower case: no two people differ by it alone.
    name_key text not null unique,
    role text not null,
    -- JSON list of sites; null: all.
    sites text,
    -- Argon2id, in PHC's notation.
    password text not null,
    password_ms bigint not null,
    created_ms bigint not null,
    created_by text not null,
    disabled_ms bigint,
    signed_in_ms bigint,
    -- The secret of the app that shows codes, sealed.
    totp text,
    -- Null until a code of it was entered.
    totp_confirmed_ms bigint,
    -- The time step of the last code that was taken: each counts once.
    totp_step bigint not null default 0
);

-- Only hashes are kept of whatever lets somebody in.
create table recovery_code (
    hash text primary key,
    user_id text not null references user_account (id),
    created_ms bigint not null,
    used_ms bigint
);
create index recovery_code_by_user on recovery_code (user_id);

create table session (
    id text primary key,
    hash text not null unique,
    user_id text not null references user_account (id),
    -- password, passkey
    method text not null,
    address text not null,
    browser text not null,
    created_ms bigint not null,
    -- When the person last proved who they are.
    proved_ms bigint not null,
    seen_ms bigint not null,
    expires_ms bigint not null,
    ended_ms bigint
);
create index session_by_user on session (user_id, ended_ms);

-- Browsers from which somebody has signed in: failures from elsewhere do not
-- slow them down.
create table known_device (
    hash text primary key,
    user_id text not null references user_account (id),
    created_ms bigint not null,
    seen_ms bigint not null
);
create index known_device_by_user on known_device (user_id);

create table passkey (
    credential_id text primary key,
    user_id text not null references user_account (id),
    name text not null,
    public text not null,
    key_id text not null,
    created_ms bigint not null,
    used_ms bigint,
    revoked_ms bigint
);
create index passkey_by_user on passkey (user_id);

-- The person whose token it is; null: it stands for itself.
alter table api_token add column owner text;
-- JSON list of sites; null: all.
alter table api_token add column sites text;
-- JSON list of permissions; null: all of its role.
alter table api_token add column permissions text;
alter table api_token add column read_only bigint not null default 0;
alter table api_token add column used_ms bigint;
