BEGIN TRANSACTION;
CREATE TABLE events (
	seq INTEGER NOT NULL, 
	at TEXT NOT NULL, 
	actor TEXT NOT NULL, 
	target TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	unit TEXT, 
	body TEXT NOT NULL, 
	prev TEXT NOT NULL, 
	hash TEXT NOT NULL, 
	PRIMARY KEY (seq), 
	CONSTRAINT one_event_a_key UNIQUE (target, kind, "key"), 
	UNIQUE (hash)
)
 STRICT

;
INSERT INTO "events" VALUES(1,'2027-09-01T08:00:01.000000+00:00','网络科','lab t','intent','20270901T080000-push-a1b2c3/cores',NULL,'{"devices":["core1"],"step":"provision","units":[]}','0000000000000000000000000000000000000000000000000000000000000000','d13fafb766f19e720d935311844e0e6455c8294973b19113467f480b8ed6310e');
INSERT INTO "events" VALUES(2,'2027-09-01T08:00:02.000000+00:00','网络科','lab t','verdict','20270901T080000-push-a1b2c3/cores/verdict',NULL,'{"allowed":true}','d13fafb766f19e720d935311844e0e6455c8294973b19113467f480b8ed6310e','a8471333156676ee92b839719d0980dce0061665a41b67b48b10c58d51f98fc9');
INSERT INTO "events" VALUES(3,'2027-09-01T08:00:03.000000+00:00','网络科','lab t','outcome','20270901T080000-push-a1b2c3/cores','fin@ta','{"result":"done","step":"provision","名":"伊川"}','a8471333156676ee92b839719d0980dce0061665a41b67b48b10c58d51f98fc9','70b4855721011584148f4846eb71d01f39f01d63972b7b2480819c2586ca1ff2');
CREATE TABLE ledger_format (
	version INTEGER NOT NULL, 
	PRIMARY KEY (version)
)
 STRICT

;
INSERT INTO "ledger_format" VALUES(1);
CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'append-only: no update'); END;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'append-only: no delete'); END;
CREATE TRIGGER events_append_only BEFORE INSERT ON events
        WHEN NEW.seq IS NOT (SELECT COALESCE(MAX(seq), 0) + 1 FROM events) OR EXISTS (
            SELECT 1 FROM events WHERE hash = NEW.hash
            OR (target = NEW.target AND kind = NEW.kind AND key = NEW.key))
        BEGIN SELECT RAISE(ABORT, 'append-only: only the next event'); END;
COMMIT;
