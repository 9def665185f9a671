-- What people say about the dependency graph.

create table topology_correction (
    id text primary key,
    -- Nodes; a host's by its id, so that the correction follows a new name.
    from_node text not null,
    to_node text not null,
    kind text not null,
    decision text not null,
    comment text not null,
    created_ms bigint not null,
    created_by text not null,
    revoked_ms bigint,
    revoked_by text
);
create index topology_correction_by_edge on topology_correction (from_node, to_node, kind);
