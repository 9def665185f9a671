-- Keys with which people sign approvals, and what they signed. The host judges
-- by its own list; this one lets the coordinator refuse early and export.

create table operator_key (
    key_id text primary key,
    operator text not null,
    alg text not null,
    public text not null unique,
    created_ms bigint not null,
    created_by text not null,
    revoked_ms bigint
);
create index operator_key_by_operator on operator_key (operator);

-- JSON of the approver's signature; null where none was given.
alter table approval add column signature text;
