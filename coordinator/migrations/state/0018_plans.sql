-- The look at its host that a plan was made from.
alter table action add column look_id text;
-- The action whose change could not be undone: until a person says so, nothing more begins on the host.
alter table host add column halted_by text;
