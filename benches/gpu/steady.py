"""Runs the daemon on recorded frames for a long time, and records its memory and whether its decisions match the CPU's."""
import json, pathlib, subprocess, tempfile, threading, time

import judge

# Seed of the renders; training and tests of the shipped model use others.
SEED = 907_000
CLASSES_FROM, LIGHT = 300, "noon"


def steady(model, args, record):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        bank = model.manifest.parent / "classes.safetensors"
        if not bank.exists():
            bank = make_bank(model, args, folder)
        frames = folder / "frames"
        args.constancy_run(["synth", "--out", frames, "--count", judge.FRAMES, "--size", "320x240", "--seed", SEED])
        config = lambda device, cameras, more: (
            f'device = "steady"\n[model]\nmanifest = "{model.manifest}"\n[engine]\ndevice = "{device}"\n'
            f'[classes]\nbank = "{bank}"\n' + "".join(
                f'[[camera]]\nname = "camera{i}"\n[camera.replay]\npath = "{frames}"\n{more}' for i in range(cameras)))
        reference, looped = folder / "cpu.toml", folder / "steady.toml"
        reference.write_text(config("cpu", 1, ""))
        looped.write_text(config(args.device, args.cameras, "loop = true\n"))
        cpu = {}
        for line in args.constancy_run(["run", "--config", reference]).splitlines():
            event = json.loads(line)
            cpu[event["file"]] = event
        log = folder / "log"
        with log.open("w") as errors:
            command = [args.constancy, "run", "--config", looped]
            daemon = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        tally = Tally(cpu)
        reader = threading.Thread(target=tally.read, args=[daemon.stdout])
        reader.start()
        try:
            minutes = watch(daemon, tally, model, args, record)
        finally:
            daemon.terminate()
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
        reader.join()
        said = log.read_text()
        # After a fallback, the CPU would be compared with itself; the log shows fallbacks.
        signs = ["the GPU is lost", "is not a number", "runs on the CPU"]
        lost = [line for line in said.splitlines() if any(sign in line for sign in signs)]
        if not tally.events:
            raise RuntimeError(f"the daemon published no event: {said[-1500:]}")
        record(part="steady", model=model.name, minutes=minutes, events=tally.events, frames=len(tally.seen),
             differing=tally.differing, worst=tally.worst, example=tally.example, held=not lost, exit=daemon.returncode,
             embed_ms=tally.median_embed_ms(), log=lost[:3])


def make_bank(model, args, folder):
    """Makes a class bank from renders, for a model that comes without one."""
    renders = folder / "classes"
    args.constancy_run(["synth", "--out", renders, "--count", CLASSES_FROM, "--size", "320x240", "--format", "folders",
                        "--environments", LIGHT])
    bank = folder / "classes.safetensors"
    args.constancy_run(["classes", "--model", model.manifest, "--from-images", renders / LIGHT, "--output", bank])
    return bank


def watch(daemon, tally, model, args, record):
    """Samples memory until the time is over or the daemon ends. Returns the minutes since the first event."""
    begun = time.monotonic()
    while not tally.events and daemon.poll() is None and time.monotonic() - begun < args.limit:
        time.sleep(0.2)
    start = time.monotonic()
    every = min(5, args.minutes * 60 / 20)
    while time.monotonic() - start < args.minutes * 60 and daemon.poll() is None:
        record(part="steady", model=model.name, seconds=round(time.monotonic() - start, 1), events=tally.events,
             **memory_mib(daemon.pid))
        time.sleep(every)
    return round((time.monotonic() - start) / 60, 2)


class Tally:
    """Compares events with the CPU's for the same file, as they arrive."""

    def __init__(self, cpu):
        self.cpu, self.seen, self.events, self.differing = cpu, set(), 0, 0
        self.worst, self.example, self.embed_ms = 0.0, None, []

    def read(self, lines):
        for line in lines:
            self.take(json.loads(line))

    def take(self, event):
        worst, differs = judge.differs(event, self.cpu[event["file"]])
        self.worst = max(self.worst, worst)
        if differs:
            self.differing += 1
            self.example = self.example or {"event": event, "cpu": self.cpu[event["file"]]}
        self.seen.add(event["file"])
        self.embed_ms.append(event["latency_ms"]["embed"])
        self.events += 1

    def median_embed_ms(self):
        return sorted(self.embed_ms)[len(self.embed_ms) // 2]


def memory_mib(pid):
    """Resident memory of the daemon and of its children, and memory in use on the card; None where it cannot be read."""
    def resident(process):
        for line in pathlib.Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return round(int(line.split()[1]) / 1024, 2)
        return 0
    try:
        tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
        children = {child for task in tasks for child in (task / "children").read_text().split()}
        daemon, worker = resident(pid), sum(map(resident, children)) if children else None
    except (OSError, ProcessLookupError):
        daemon = worker = None
    return {"daemon": daemon, "worker": worker, "gpu": card_mib()}


def card_mib():
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        return int(subprocess.run(query, check=True, capture_output=True, text=True, timeout=30).stdout.split()[0])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
