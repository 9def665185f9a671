-- What a host sent late and what it had to drop.

-- Batches observed before the session in which they came.
alter table stream add column backfilled bigint not null default 0;
-- Last number of a backlog, as the host announced it; what lies above
-- `last_seq` has still to come.
alter table stream add column announced_seq bigint not null default 0;
-- The newest loss: when its batches were observed, and how many they were.
alter table stream add column gap_from_ms bigint;
alter table stream add column gap_to_ms bigint;
alter table stream add column gap_batches bigint;
