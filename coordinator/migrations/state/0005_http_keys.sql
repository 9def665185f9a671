-- Keys of hosts that sign their requests. The secret is not here: it is derived
-- from a file in the data folder, the host's id and the key's id.

create table http_key (
    id text primary key,
    host_id text not null references host (id),
    created_ms bigint not null,
    revoked_ms bigint
);
create index http_key_by_host on http_key (host_id);

-- Requests that were taken, for as long as their time stays acceptable.
create table http_nonce (
    key_id text not null,
    nonce text not null,
    at_ms bigint not null,
    primary key (key_id, nonce)
);
create index http_nonce_by_time on http_nonce (at_ms);
