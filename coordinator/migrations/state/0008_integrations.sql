-- Systems that the coordinator talks to with credentials. `secret` is sealed
-- with the key in the installation's `secrets.key`.

create table integration (
    id text primary key,
    name text not null unique,
    kind text not null,
    site text,
    -- JSON: addresses, whom to believe, tags, further options by name.
    endpoints text not null,
    tls text not null,
    tags text not null,
    options text not null,
    user_name text,
    secret text,
    created_ms bigint not null,
    updated_ms bigint not null,
    last_success_ms bigint,
    last_error text,
    last_error_ms bigint
);
