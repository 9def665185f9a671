-- Each state that an action entered stands in the record, with its time and
-- its actor; a second table of the same cost every step a statement.
drop table action_transition;
create index audit_by_object on audit (object_kind, object_id);
