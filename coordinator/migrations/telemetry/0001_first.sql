-- Telemetry: append-only bulk, written by one task, without secondary unique
-- keys; duplicates fall by the stream's last sequence number in the same commit.
-- `integer primary key` is the row id of SQLite, so appending touches one page.

create table stream (
    id integer primary key,
    host_key bigint not null,
    stream text not null,
    last_seq bigint not null,
    received bigint not null,
    lost bigint not null,
    metrics text,
    metrics_ms bigint,
    unique (host_key, stream)
);

create table batch (
    id integer primary key,
    stream_id bigint not null,
    seq bigint not null,
    observed_ms bigint not null,
    received_ms bigint not null,
    metrics text
);

create table report (
    id integer primary key,
    host_key bigint not null,
    check_id text not null,
    status text not null,
    value double precision,
    unit text,
    text text not null,
    cause text,
    observed_ms bigint not null,
    received_ms bigint not null
);

create table gap (
    id integer primary key,
    stream_id bigint not null,
    first_seq bigint not null,
    last_seq bigint not null,
    from_ms bigint not null,
    to_ms bigint not null,
    recorded_ms bigint not null
);

create table push (
    host_key bigint not null,
    action_id text not null,
    received_ms bigint not null,
    primary key (host_key, action_id)
);
