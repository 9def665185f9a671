-- Why a finding is not told: `cause`, `silence`, `maintenance`, `backup`; and by
-- what: a finding for the first, else an identifier of that kind.
alter table finding add column hidden_kind text;
alter table finding add column hidden_by text;
-- The finding that it has joined, being told with it.
alter table finding add column joined_id text;
-- When it was told beside its thread; null where it never was.
alter table finding add column told_ms bigint;
alter table finding add column flapping bigint not null default 0;
alter table finding add column stale bigint not null default 0;
create index finding_by_check on finding (host_key, check_id, episode);
create index finding_by_hidden on finding (hidden_by);
create index finding_by_joined on finding (joined_id);
create index outbox_by_channel on outbox (channel, state);
