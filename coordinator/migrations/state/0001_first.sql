-- State: everything that people decide or that decisions rest on.
-- Portable subset: TEXT, BIGINT milliseconds since the epoch, 0/1 for truth.

create table setting (
    name text primary key,
    value text not null
);

create table host (
    id text primary key,
    host_key bigint not null unique,
    name text not null unique,
    site text,
    state text not null,
    key_sha256 text unique,
    cert_serial text,
    cert_not_after_ms bigint,
    protocol bigint,
    agent_version text,
    capabilities text,
    max_unsigned_class text,
    effects_allowed bigint,
    journal_id text,
    journal_seq bigint,
    last_seen_ms bigint,
    created_ms bigint not null,
    enrolled_ms bigint,
    revoked_ms bigint
);

create table enrolment_token (
    hash text primary key,
    host_id text not null references host (id),
    created_ms bigint not null,
    expires_ms bigint not null,
    used_ms bigint
);

create table api_token (
    id text primary key,
    name text not null unique,
    role text not null,
    hash text not null unique,
    created_ms bigint not null,
    expires_ms bigint,
    revoked_ms bigint
);

create table check_state (
    host_key bigint not null,
    check_id text not null,
    state text not null,
    primary key (host_key, check_id)
);

create table finding (
    id text primary key,
    fingerprint text not null,
    episode bigint not null,
    scenario text not null,
    check_id text not null,
    host_key bigint not null,
    persona text not null,
    severity text not null,
    state text not null,
    title text not null,
    status text not null,
    value double precision,
    unit text,
    text text not null,
    thread_id text not null,
    opened_ms bigint not null,
    updated_ms bigint not null,
    acknowledged_ms bigint,
    acknowledged_by text,
    resolved_ms bigint,
    unique (fingerprint, episode)
);
create index finding_by_state on finding (state, opened_ms);

create table agent_threads (
    id text primary key,
    finding_id text,
    persona text not null,
    subject text not null,
    state text not null,
    created_ms bigint not null,
    updated_ms bigint not null
);
create index agent_threads_by_update on agent_threads (updated_ms);

create table agent_messages (
    id text primary key,
    thread_id text not null references agent_threads (id),
    effect_key text not null unique,
    author text not null,
    author_kind text not null,
    kind text not null,
    body text not null,
    created_ms bigint not null,
    archived_ms bigint,
    archived_by text
);
create index agent_messages_by_thread on agent_messages (thread_id, created_ms);
create index agent_messages_pending on agent_messages (archived_ms, created_ms);

create table advice (
    finding_id text primary key references finding (id),
    source text not null,
    document text not null,
    created_ms bigint not null
);

create table action (
    id text primary key,
    host_key bigint not null,
    kind text not null,
    plan text not null,
    plan_hash text not null,
    risk_class text not null,
    state text not null,
    reason_code text,
    detail text,
    requested_by text not null,
    reason text not null,
    finding_id text,
    effect_key text unique,
    issued_ms bigint not null,
    expires_ms bigint not null,
    timeout_ms bigint not null,
    updated_ms bigint not null,
    outcome text,
    cancel_requested bigint not null default 0
);
create index action_by_state on action (state, host_key);
create index action_by_issue on action (issued_ms);

create table action_transition (
    action_id text not null references action (id),
    n bigint not null,
    state text not null,
    at_ms bigint not null,
    actor text not null,
    primary key (action_id, n)
);

create table approval (
    action_id text not null references action (id),
    approver text not null,
    role text not null,
    decision text not null,
    plan_hash text not null,
    comment text not null,
    at_ms bigint not null,
    primary key (action_id, approver)
);

create table audit (
    id text primary key,
    at_ms bigint not null,
    actor text not null,
    verb text not null,
    object_kind text not null,
    object_id text not null,
    detail text not null,
    hash text not null
);
create index audit_by_time on audit (at_ms);

create table outbox (
    id text primary key,
    effect_key text not null unique,
    channel text not null,
    recipient text not null,
    subject text not null,
    body text not null,
    message_id text not null,
    in_reply_to text,
    state text not null,
    attempts bigint not null,
    next_ms bigint not null,
    last_error text,
    created_ms bigint not null,
    sent_ms bigint
);
create index outbox_due on outbox (state, next_ms);

create table scenario_run (
    id text primary key,
    scenario text not null,
    requested_by text not null,
    state text not null,
    created_ms bigint not null,
    finished_ms bigint
);
