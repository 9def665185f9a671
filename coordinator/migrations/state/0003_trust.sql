-- What a host's certificate, roots and machine are, beside its pinned key.

create table host_trust (
    host_key bigint primary key,
    -- Key identifier of the authority that issued its certificate.
    issuer text,
    -- SHA-256 of the roots it trusts, comma separated; null: it does not say.
    roots text,
    -- JSON: machine, boots, name, and a conflict that waits for a person.
    identity text not null,
    -- Why it did not take the last certificate it was sent.
    refused text,
    -- When it asked for a certificate that needs a person's consent.
    asked_ms bigint,
    -- Until when a person has consented.
    consent_ms bigint,
    -- 1: its report is to be made again; 2: its connection is to be cut too.
    attention bigint not null
);
create index host_trust_by_attention on host_trust (attention);

-- 1: two machines answer under this name, so no order leaves.
alter table host add column held bigint not null default 0;
