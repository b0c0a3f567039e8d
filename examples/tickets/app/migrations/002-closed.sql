ALTER TABLE tickets ADD COLUMN closed timestamptz;
CREATE INDEX tickets_open ON tickets (id) WHERE closed IS NULL;
