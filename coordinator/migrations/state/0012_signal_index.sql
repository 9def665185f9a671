-- Lists of signals, their retention and the count of a host's checks read what
-- they show, not all there is.

create index signal_by_site on signal (site_id, id);
create index signal_by_severity on signal (severity, id);
create index signal_by_check on signal (host_key, check_id);
-- `reported` is 2 for a signal that is listed only: its host has too many
-- checks.
create index signal_listed_only on signal (host_key) where reported = 2;

-- Whether the sender may speak for this host alone.
alter table signal add column own_host bigint not null default 0;

-- When making the issue was last tried without an answer that says what came
-- of it.
alter table ticket add column attempted_ms bigint;
-- GitHub does not tell names apart by their case.
update ticket set repository = lower(repository);
