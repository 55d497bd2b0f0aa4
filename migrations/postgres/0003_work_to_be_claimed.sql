-- Work that survives its process, and that several processes share.

CREATE TABLE scan_work (
    scan_id        BIGINT PRIMARY KEY REFERENCES scan,
    known_accounts INTEGER,
    discovered     JSONB,
    lister_key     INTEGER REFERENCES worker,
    listed_at      TIMESTAMPTZ,
    list_error     TEXT,
    entered        INTEGER NOT NULL,
    locked         INTEGER NOT NULL,
    example        TEXT
);

CREATE TABLE participant (
    scan_id     BIGINT NOT NULL REFERENCES scan,
    worker_key  INTEGER NOT NULL REFERENCES worker,
    alive_until TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (scan_id, worker_key)
);

CREATE TABLE claim (
    scan_id    BIGINT NOT NULL REFERENCES scan,
    account_id TEXT COLLATE "C" NOT NULL CHECK (length(account_id) = 12),
    rank       INTEGER NOT NULL CHECK (rank IN (0, 1)),
    account    JSONB NOT NULL,
    worker_key INTEGER REFERENCES worker,
    PRIMARY KEY (scan_id, account_id)
);

CREATE INDEX claim_in_order ON claim (scan_id, rank, account_id);

CREATE TABLE owner_view (
    scan_id    BIGINT NOT NULL REFERENCES scan,
    account_id TEXT COLLATE "C" NOT NULL CHECK (length(account_id) = 12),
    regions    JSONB NOT NULL,
    PRIMARY KEY (scan_id, account_id)
);

INSERT INTO scan_work (scan_id, entered, locked) SELECT scan_id, 0, 0 FROM scan WHERE state = 'running';

UPDATE scan SET scheduled_for = NULL
WHERE EXISTS (
    SELECT 1 FROM scan AS newer
    WHERE newer.organization_name = scan.organization_name AND newer.scheduled_for = scan.scheduled_for AND newer.scan_id > scan.scan_id
);

CREATE UNIQUE INDEX scan_scheduled ON scan (organization_name, scheduled_for) WHERE scheduled_for IS NOT NULL;

COMMENT ON TABLE scan_work IS 'A scan that is at work: what all who take part in it know. Gone when it has ended.';
COMMENT ON COLUMN scan_work.scan_id IS 'the scan';
COMMENT ON COLUMN scan_work.known_accounts IS 'members when it began; null until the organization is known';
COMMENT ON COLUMN scan_work.discovered IS 'the organization and the owners of its analyzers; null until they are known';
COMMENT ON COLUMN scan_work.lister_key IS 'the process that lists its accounts';
COMMENT ON COLUMN scan_work.listed_at IS 'when the list ended; null while it is read';
COMMENT ON COLUMN scan_work.list_error IS 'why it did not end well';
COMMENT ON COLUMN scan_work.entered IS 'accounts that were entered with their role';
COMMENT ON COLUMN scan_work.locked IS 'accounts whose role could not be assumed';
COMMENT ON COLUMN scan_work.example IS 'one of these, and why';
COMMENT ON TABLE participant IS 'A process that takes part in a scan. Gone when it leaves, or the scan has ended.';
COMMENT ON COLUMN participant.scan_id IS 'the scan';
COMMENT ON COLUMN participant.worker_key IS 'the process';
COMMENT ON COLUMN participant.alive_until IS 'by the clock of the database: what it claimed is free afterwards';
COMMENT ON TABLE claim IS 'An account that a scan has still to visit. Gone when its visit is recorded.';
COMMENT ON COLUMN claim.scan_id IS 'the scan';
COMMENT ON COLUMN claim.account_id IS 'AWS''s twelve digits';
COMMENT ON COLUMN claim.rank IS '0 for those that may own the organization''s analyzers: they come first';
COMMENT ON COLUMN claim.account IS 'the account as it was listed';
COMMENT ON COLUMN claim.worker_key IS 'the process that visits it; null while nobody does';
COMMENT ON TABLE owner_view IS 'What an owner of the organization''s analyzers said in a scan. Gone when it has ended.';
COMMENT ON COLUMN owner_view.scan_id IS 'the scan';
COMMENT ON COLUMN owner_view.account_id IS 'the owner';
COMMENT ON COLUMN owner_view.regions IS 'by region that could be read: its analyzers';
