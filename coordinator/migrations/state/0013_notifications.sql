-- The outbox holds one row a (finding, episode, what, channel, recipient), also
-- for those who were not told, with the reason.

-- `email`, `ntfy` (the server of the environment) or `integration:NAME` stand in
-- `channel`; an address, a topic, a room or nothing in `recipient`.
alter table outbox add column finding_id text;
alter table outbox add column episode bigint not null default 0;
-- problem, grew.N, recovery
alter table outbox add column what text not null default 'problem';
-- JSON: why it was not told.
alter table outbox add column reason text;
-- JSON: what it tells, for channels that do not take text.
alter table outbox add column document text;
-- What the other side called it.
alter table outbox add column provider_id text;
-- Told only if nobody acknowledged within this time.
alter table outbox add column after_ms bigint not null default 0;
-- That time is not over yet.
alter table outbox add column escalates bigint not null default 0;

update outbox set what = 'recovery' where effect_key like '%/recovery';
update outbox set finding_id = (select finding.id from finding
    where outbox.effect_key = 'mail/' || finding.fingerprint || '/' || finding.episode || '/' || outbox.what);
update outbox set episode = coalesce((select finding.episode from finding where finding.id = outbox.finding_id), 0);
update outbox set effect_key = 'email/' || recipient || substr(effect_key, 5);

create index outbox_by_finding on outbox (finding_id, channel, recipient, what);
create index outbox_by_age on outbox (created_ms, id);

-- What is known of a channel beside its messages.
create table notify_channel (
    channel text primary key,
    -- It asked for no more before then.
    paused_ms bigint,
    -- It wants none any more, and why.
    disabled_ms bigint,
    reason text
);

-- Links by which the holder acknowledges without a login. Only hashes are kept.
create table ack_link (
    hash text primary key,
    finding_id text not null references finding (id),
    channel text not null,
    recipient text not null,
    created_ms bigint not null,
    expires_ms bigint not null,
    used_ms bigint
);
create index ack_link_by_expiry on ack_link (expires_ms);
