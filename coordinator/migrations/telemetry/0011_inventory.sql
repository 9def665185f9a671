-- What each host is made of, the newest only.

create table inventory (
    host_key bigint primary key,
    observed_ms bigint not null,
    received_ms bigint not null,
    digest text not null,
    -- JSON, at most 256 KiB.
    body text not null
);
