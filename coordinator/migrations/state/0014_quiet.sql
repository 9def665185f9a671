-- When nobody is to be told: silences until a time, and planned maintenance.
-- `scope` is JSON: ids of hosts, sites, scenario and check that are meant.

create table silence (
    id text primary key,
    scope text not null,
    -- Set on this finding; the scope is its check.
    finding_id text,
    comment text not null,
    created_ms bigint not null,
    created_by text not null,
    until_ms bigint not null,
    -- Before its time.
    ended_ms bigint,
    ended_by text
);
create index silence_by_creation on silence (created_ms, id);
create index silence_by_end on silence (until_ms);

create table maintenance (
    id text primary key,
    name text not null,
    scope text not null,
    comment text not null,
    -- By the clock of the zone, such as 2026-11-22T02:00:00.
    starts text not null,
    zone text not null,
    duration_ms bigint not null,
    -- Of iCalendar; none for what comes once.
    repeats text,
    enabled bigint not null,
    created_ms bigint not null,
    created_by text not null,
    updated_ms bigint not null,
    updated_by text not null,
    ended_ms bigint,
    ended_by text
);
create index maintenance_by_creation on maintenance (created_ms, id);
