-- History: points of minutes and hours, packed, and when each check said what.
-- `blob` is SQLite's name; PostgreSQL's is `bytea`.

-- A metric of a host, or a check (`check:ID`).
create table history_series (
    id integer primary key,
    host_key bigint not null,
    name text not null,
    unit text,
    -- Observed times of values that are in chunks; null before the first.
    first_ms bigint,
    last_ms bigint,
    unique (host_key, name)
);

-- What a host showed within a minute, until it is folded into chunks.
create table history_minute (
    host_key bigint not null,
    minute_ms bigint not null,
    points blob not null,
    reports blob not null,
    primary key (host_key, minute_ms)
);

-- Kinds: 0 points of minutes, a day; 1 points of hours, thirty days; 2 the
-- places of reports, a day. Their format is `history/pack.rs`.
create table history_chunk (
    series_id bigint not null,
    kind bigint not null,
    from_ms bigint not null,
    data blob not null,
    primary key (series_id, kind, from_ms)
);

-- The last rows that were rolled up; one row.
create table history_cursor (
    id integer primary key,
    batch bigint not null,
    report bigint not null
);

insert into history_cursor (id, batch, report) values (1, 0, 0);
