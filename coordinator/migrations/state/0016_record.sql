-- The record as a chain, where it ends, and what actions left.

-- Links of the chain, without gaps. Nothing here is ever changed.
create table audit_seal (
    seq bigint primary key,
    entry_id text not null unique,
    -- The entry's own hash as it was when it was sealed.
    entry_hash text not null,
    -- SHA-256 over the link before, `seq` and `entry_hash`.
    chain_hash text not null
);

-- One row, replaced with each batch, so that no older one is there to go back to.
create table audit_head (
    id bigint primary key,
    seq bigint not null,
    chain_hash text not null,
    sealed_ms bigint not null,
    public_key text not null,
    -- Over all of the above, by a key that is not in the database.
    signature text not null,
    -- Who seals, and until when nobody else does.
    holder text not null,
    until_ms bigint not null
);

alter table audit add column sealed bigint not null default 0;
create index audit_unsealed on audit (id) where sealed = 0;

-- `blob` is SQLite's name; PostgreSQL's is `bytea`.
create table evidence (
    id text primary key,
    action_id text,
    finding_id text,
    step text not null,
    name text not null,
    media_type text not null,
    sha256 text not null,
    bytes bigint not null,
    content blob not null,
    at_ms bigint not null
);
create index evidence_by_action on evidence (action_id);
create index evidence_by_finding on evidence (finding_id);
