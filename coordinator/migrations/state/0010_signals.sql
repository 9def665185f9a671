-- Facts that others send (agents of Atlas Ops, Alertmanager), and tickets that
-- were opened elsewhere about findings.

create table signal (
    -- Shown to clients as it is; never used twice.
    id bigint primary key,
    site_id text not null,
    kind text not null,
    summary text not null,
    detail text not null,
    severity text not null,
    source text not null,
    observed_ms bigint not null,
    received_ms bigint not null,
    -- What it says of which check of which host.
    host_key bigint not null,
    check_id text not null,
    status text not null,
    -- Of an alert: what it is about, and when it began.
    alert text,
    alert_started_ms bigint,
    alert_firing bigint,
    -- Whether its report is committed too.
    reported bigint not null default 0
);
create index signal_by_alert on signal (alert, id) where alert is not null;
create index signal_waiting on signal (id) where reported = 0;

create table ticket (
    finding_id text not null references finding (id),
    repository text not null,
    -- Hidden in the text of the issue: how it is found again.
    marker text not null unique,
    -- None while nobody knows whether it was made.
    number bigint,
    url text,
    requested_by text not null,
    created_ms bigint not null,
    primary key (finding_id, repository)
);
