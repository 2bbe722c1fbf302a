CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.cells (
    run_id text NOT NULL COLLATE pg_catalog."C",
    id text NOT NULL COLLATE pg_catalog."C",
    "position" integer NOT NULL,
    document json NOT NULL,
    fault json
);
CREATE TABLE public.devices (
    run_id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    document json NOT NULL
);
CREATE TABLE public.launches (
    id text NOT NULL COLLATE pg_catalog."C",
    run_id text NOT NULL COLLATE pg_catalog."C",
    cell_id text NOT NULL COLLATE pg_catalog."C",
    round integer NOT NULL,
    status text NOT NULL COLLATE pg_catalog."C",
    document json NOT NULL
);
CREATE TABLE public.runs (
    id text NOT NULL COLLATE pg_catalog."C",
    started_at text NOT NULL COLLATE pg_catalog."C",
    finished_at text COLLATE pg_catalog."C",
    tag text COLLATE pg_catalog."C",
    document json NOT NULL
);
CREATE TABLE public.samples (
    launch_id text NOT NULL COLLATE pg_catalog."C",
    metric text NOT NULL COLLATE pg_catalog."C",
    unit text NOT NULL COLLATE pg_catalog."C",
    dtype text NOT NULL COLLATE pg_catalog."C",
    shape json NOT NULL,
    stride bigint NOT NULL,
    "values" bytea NOT NULL
);
CREATE TABLE public.variants (
    run_id text NOT NULL COLLATE pg_catalog."C",
    sha256 text NOT NULL COLLATE pg_catalog."C",
    variant text NOT NULL COLLATE pg_catalog."C",
    document json NOT NULL
);
INSERT INTO public.alembic_version VALUES ('3');
INSERT INTO public.cells VALUES ('20260101-000000-abcd', 'c907711f7fff7510', 0, '{"device": "board", "model": "lenet", "variant": "fp32", "format": "onnx", "artifact": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "backend": "onnxruntime", "options": {"threads": 2}, "workload": {"name": "single_stream", "options": {}}}', 'null');
INSERT INTO public.cells VALUES ('20260101-000000-abcd', 'daa6c5c3f1782f9a', 1, '{"device": "board", "model": "lenet", "variant": "int8", "format": "onnx", "artifact": "", "backend": "onnxruntime", "options": {"threads": 2}, "workload": {"name": "single_stream", "options": {}}}', '{"code": "convert_fail", "phase": "compress", "message": "it has no int8", "next": "leave it out"}');
INSERT INTO public.devices VALUES ('20260101-000000-abcd', 'board', '{"kind": "generic", "tags": {"room": "lab2"}, "probe": {"agent": "0.1.0", "hostname": "board", "board": "", "soc": "", "machine": "x86_64", "bits": 64, "page_bytes": 4096, "kernel": "6.12.0", "os": "Debian GNU/Linux 12 (bookworm)", "glibc": "2.36", "python": "3.11.7", "python_path": "/usr/bin/python3", "cpu_model": "AMD EPYC", "cpu_count": 2, "memory_bytes": 25276510208, "disk_free_bytes": 48498065408, "cache_dir": "/home/bench/.cache/fleetmark", "boot_id": "8d4c0f0e", "emulated": "", "container": "", "user": "bench", "groups": ["bench"], "wall_time_s": 1767225600.5, "monotonic_s": 100.25, "thermal_zones_c": {}, "governors": [], "accelerators": [], "power_sources": [], "cache_problem": "", "environments": [], "power_mode": "", "interpreters": [], "versions": {}, "tools": {}, "backends": []}, "groups": [], "price": null}');
INSERT INTO public.launches VALUES ('20260101-000000-abcd-valid', '20260101-000000-abcd', 'c907711f7fff7510', 0, 'valid', '{"started_at": "2026-01-01T00:00:10.000+00:00", "before": {"when": "before", "wall_time_s": 1767225610.5, "monotonic_s": 110.25, "load_1m": 2.37, "memory_available_bytes": 24570662912, "cpu_busy_share": 0.5, "temps_c": {}, "clocks_hz": {}, "governors": [], "limits_c": {}, "peaks_c": {}, "throttle": {}, "usb_mbps": {}, "power_mode": "", "shared_gpu_bytes": null}, "after": {"when": "after", "wall_time_s": 1767225611.5, "monotonic_s": 111.25, "load_1m": 2.37, "memory_available_bytes": 24570662912, "cpu_busy_share": 1.0, "temps_c": {}, "clocks_hz": {}, "governors": [], "limits_c": {}, "peaks_c": {}, "throttle": {}, "usb_mbps": {}, "power_mode": "", "shared_gpu_bytes": null}, "fault": null, "log_tail": "a log", "details": {"threads": 2}, "notes": ["a note"]}');
INSERT INTO public.launches VALUES ('20260101-000000-abcd-failed', '20260101-000000-abcd', 'c907711f7fff7510', 1, 'failed', '{"started_at": "2026-01-01T00:00:11.000+00:00", "before": {"when": "before", "wall_time_s": 1767225610.5, "monotonic_s": 110.25, "load_1m": 2.37, "memory_available_bytes": 24570662912, "cpu_busy_share": 0.5, "temps_c": {}, "clocks_hz": {}, "governors": [], "limits_c": {}, "peaks_c": {}, "throttle": {}, "usb_mbps": {}, "power_mode": "", "shared_gpu_bytes": null}, "after": null, "fault": {"code": "crash", "phase": "measure", "message": "it died", "next": "see the log"}, "log_tail": "", "details": {}, "notes": []}');
INSERT INTO public.launches VALUES ('20260101-000000-abcd-open', '20260101-000000-abcd', 'c907711f7fff7510', 2, 'started', '{"started_at": "2026-01-01T00:00:12.000+00:00"}');
INSERT INTO public.runs VALUES ('20260101-000000-abcd', '2026-01-01T00:00:00.000+00:00', NULL, NULL, '{"fleetmark": "0.1.0", "profile": "quick", "suite": "suite.yaml", "launches": 2, "request": {"target": "suite.yaml", "name": "suite.yaml"}, "provenance": {"controller": "laptop"}}');
INSERT INTO public.samples VALUES ('20260101-000000-abcd-valid', 'latency_ns', 'ns', 'int64', '[50]', 2, '\x789c53f06300033528ad0aa555a0b432945682d28a505a61541f4df401008b1b1610');
INSERT INTO public.samples VALUES ('20260101-000000-abcd-valid', 'output_0', '1', 'float32', '[2, 3]', 1, '\x789c636068b067c082013456047b');
INSERT INTO public.variants VALUES ('20260101-000000-abcd', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'fp32', '{"model": "lenet", "format": "onnx", "size_bytes": 1234, "manifest": {"accuracy": 0.9}}');
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.cells
    ADD CONSTRAINT cells_pkey PRIMARY KEY (run_id, id);
ALTER TABLE ONLY public.devices
    ADD CONSTRAINT devices_pkey PRIMARY KEY (run_id, name);
ALTER TABLE ONLY public.launches
    ADD CONSTRAINT launches_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.runs
    ADD CONSTRAINT runs_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.samples
    ADD CONSTRAINT samples_pkey PRIMARY KEY (launch_id, metric);
ALTER TABLE ONLY public.variants
    ADD CONSTRAINT variants_pkey PRIMARY KEY (run_id, sha256, variant);
CREATE INDEX ix_launches_run_id ON public.launches USING btree (run_id);
ALTER TABLE ONLY public.cells
    ADD CONSTRAINT cells_run_id_fkey FOREIGN KEY (run_id) REFERENCES public.runs(id);
ALTER TABLE ONLY public.devices
    ADD CONSTRAINT devices_run_id_fkey FOREIGN KEY (run_id) REFERENCES public.runs(id);
ALTER TABLE ONLY public.launches
    ADD CONSTRAINT launches_run_id_fkey FOREIGN KEY (run_id) REFERENCES public.runs(id);
ALTER TABLE ONLY public.samples
    ADD CONSTRAINT samples_launch_id_fkey FOREIGN KEY (launch_id) REFERENCES public.launches(id);
ALTER TABLE ONLY public.variants
    ADD CONSTRAINT variants_run_id_fkey FOREIGN KEY (run_id) REFERENCES public.runs(id);
