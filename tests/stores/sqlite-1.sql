PRAGMA user_version=1;
BEGIN TRANSACTION;
CREATE TABLE cells (
	run_id VARCHAR(64) NOT NULL, 
	id VARCHAR(16) NOT NULL, 
	position INTEGER NOT NULL, 
	document JSON NOT NULL, 
	fault JSON, 
	PRIMARY KEY (run_id, id), 
	FOREIGN KEY(run_id) REFERENCES runs (id)
);
INSERT INTO "cells" VALUES('20260101-000000-abcd','c907711f7fff7510',0,'{"device": "board", "model": "lenet", "variant": "fp32", "format": "onnx", "artifact": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "backend": "onnxruntime", "options": {"threads": 2}, "workload": {"name": "single_stream", "options": {}}}','null');
INSERT INTO "cells" VALUES('20260101-000000-abcd','daa6c5c3f1782f9a',1,'{"device": "board", "model": "lenet", "variant": "int8", "format": "onnx", "artifact": "", "backend": "onnxruntime", "options": {"threads": 2}, "workload": {"name": "single_stream", "options": {}}}','{"code": "convert_fail", "phase": "compress", "message": "it has no int8", "next": "leave it out"}');
CREATE TABLE devices (
	run_id VARCHAR(64) NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	document JSON NOT NULL, 
	PRIMARY KEY (run_id, name), 
	FOREIGN KEY(run_id) REFERENCES runs (id)
);
INSERT INTO "devices" VALUES('20260101-000000-abcd','board','{"kind": "generic", "tags": {"room": "lab2"}, "probe": {"agent": "0.1.0", "hostname": "board", "board": "", "machine": "x86_64", "bits": 64, "kernel": "6.12.0", "os": "Debian GNU/Linux 12 (bookworm)", "glibc": "2.36", "python": "3.11.7", "python_path": "/usr/bin/python3", "cpu_model": "AMD EPYC", "cpu_count": 2, "memory_bytes": 25276510208, "disk_free_bytes": 48498270208, "cache_dir": "/home/bench/.cache/fleetmark", "boot_id": "8d4c0f0e", "emulated": "", "wall_time_s": 1767225600.5, "monotonic_s": 100.25, "environments": [], "backends": []}}');
CREATE TABLE launches (
	id VARCHAR(64) NOT NULL, 
	run_id VARCHAR(64) NOT NULL, 
	cell_id VARCHAR(16) NOT NULL, 
	round INTEGER NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	document JSON NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(run_id) REFERENCES runs (id)
);
INSERT INTO "launches" VALUES('20260101-000000-abcd-valid','20260101-000000-abcd','c907711f7fff7510',0,'valid','{"started_at": "2026-01-01T00:00:10.000+00:00", "before": {"when": "before", "wall_time_s": 1767225610.5, "monotonic_s": 110.25, "load_1m": 2.31, "memory_available_bytes": 24573898752, "cpu_busy_share": 0.5238095238095238, "temps_c": {}, "clocks_hz": {}, "governors": []}, "after": {"when": "after", "wall_time_s": 1767225611.5, "monotonic_s": 111.25, "load_1m": 2.31, "memory_available_bytes": 24573902848, "cpu_busy_share": 1.0, "temps_c": {}, "clocks_hz": {}, "governors": []}, "fault": null, "log_tail": "a log", "details": {"threads": 2}, "notes": ["a note"]}');
INSERT INTO "launches" VALUES('20260101-000000-abcd-failed','20260101-000000-abcd','c907711f7fff7510',1,'failed','{"started_at": "2026-01-01T00:00:11.000+00:00", "before": {"when": "before", "wall_time_s": 1767225610.5, "monotonic_s": 110.25, "load_1m": 2.31, "memory_available_bytes": 24573898752, "cpu_busy_share": 0.5238095238095238, "temps_c": {}, "clocks_hz": {}, "governors": []}, "after": null, "fault": {"code": "crash", "phase": "measure", "message": "it died", "next": "see the log"}, "log_tail": "", "details": {}, "notes": []}');
INSERT INTO "launches" VALUES('20260101-000000-abcd-open','20260101-000000-abcd','c907711f7fff7510',2,'started','{"started_at": "2026-01-01T00:00:12.000+00:00"}');
CREATE TABLE runs (
	id VARCHAR(64) NOT NULL, 
	started_at VARCHAR(32) NOT NULL, 
	finished_at VARCHAR(32), 
	tag VARCHAR(64), 
	document JSON NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "runs" VALUES('20260101-000000-abcd','2026-01-01T00:00:00.000+00:00',NULL,NULL,'{"fleetmark": "0.1.0", "profile": "quick", "suite": "suite.yaml", "launches": 2, "request": {"target": "suite.yaml", "name": "suite.yaml"}, "provenance": {"controller": "laptop"}}');
CREATE TABLE samples (
	launch_id VARCHAR(64) NOT NULL, 
	metric VARCHAR(64) NOT NULL, 
	unit VARCHAR(64) NOT NULL, 
	dtype VARCHAR(16) NOT NULL, 
	shape JSON NOT NULL, 
	stride INTEGER NOT NULL, 
	"values" BLOB NOT NULL, 
	PRIMARY KEY (launch_id, metric), 
	FOREIGN KEY(launch_id) REFERENCES launches (id)
);
INSERT INTO "samples" VALUES('20260101-000000-abcd-valid','latency_ns','ns','int64','[50]',2,X'789C53F06300033528AD0AA555A0B432945682D28A505A61541F4DF401008B1B1610');
INSERT INTO "samples" VALUES('20260101-000000-abcd-valid','output_0','1','float32','[2, 3]',1,X'789C636068B067C082013456047B');
CREATE TABLE variants (
	run_id VARCHAR(64) NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	variant VARCHAR(128) NOT NULL, 
	document JSON NOT NULL, 
	PRIMARY KEY (run_id, sha256, variant), 
	FOREIGN KEY(run_id) REFERENCES runs (id)
);
INSERT INTO "variants" VALUES('20260101-000000-abcd','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','fp32','{"model": "lenet", "format": "onnx", "size_bytes": 1234, "manifest": {"accuracy": 0.9}}');
CREATE INDEX ix_launches_run_id ON launches (run_id);
COMMIT;
