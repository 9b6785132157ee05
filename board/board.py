#!/usr/bin/env python3
"""Boots an emulated ARM board with virtual cameras, runs the packaged daemon on it as a service, breaks the cameras in every
way that their driver can, and checks that the daemon tells it and goes on.

    make board                       builds the package, then runs this
    board/board.py PACKAGE.deb FOLDER
    board/board.py … --without-camera   without the cameras' driver: fails, as it should

The board is `qemu-system-aarch64 -M virt` with a Cortex-A76 and Debian's kernel, whose module `vivid` gives the cameras; the
broker is a mosquitto on this machine. FOLDER keeps what was downloaded, and the console's log.
"""
import argparse, json, pathlib, re, shutil, socket, subprocess, sys, threading, time

sys.dont_write_bytecode = True
import machine
from machine import Failed

# Within which the daemon has to be back after a camera's fault is over.
RECOVERY_S = 5.0
CONFIG = """
device = "board"
[model]
manifest = "/usr/share/constancy/models/pocket/pocket.toml"
projection = "/usr/share/constancy/models/pocket/projection.safetensors"
[classes]
bank = "/usr/share/constancy/models/pocket/classes.safetensors"
[mqtt]
broker = "mqtt://10.0.2.2:{port}"
"""
CAMERA = """
[[camera]]
name = "{name}"
stall_s = 1.0
[camera.v4l]
device = "{device}"
width = 640
height = 360
fps = 10
{rest}
"""
FORMATS = ["yuyv", "uyvy", "nv12", "grey"]


class Broker:
    """A mosquitto, and everything that was published there with the time when it came."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        config = folder / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self.broker = subprocess.Popen([program, "-c", config], stderr=subprocess.DEVNULL)
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        else:
            raise Failed("mosquitto does not start")
        self.heard, self.changed = [], threading.Condition()
        self.client = subprocess.Popen(
            ["mosquitto_sub", "-p", str(self.port), "-t", "constancy/#", "-F", "%t\t%p"], stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.client.stdout:
            topic, _, payload = line.rstrip("\n").partition("\t")
            with self.changed:
                self.heard.append((time.monotonic(), topic, payload))
                self.changed.notify_all()

    def wait(self, what, matches, since, limit_s):
        """The first message from `since` on that matches: (seconds after `since`, payload)."""
        end = time.monotonic() + limit_s
        with self.changed:
            at = 0
            while True:
                for when, topic, payload in self.heard[at:]:
                    if when >= since and matches(topic, payload):
                        return when - since, payload
                at = len(self.heard)
                if not self.changed.wait(max(0.0, end - time.monotonic())):
                    raise Failed(f"{what}: nothing within {limit_s} s")

    def event(self, camera, since, limit_s, what="no event"):
        seconds, payload = self.wait(what, lambda t, _: t == f"constancy/board/{camera}/event", since, limit_s)
        return seconds, json.loads(payload)

    def fault(self, camera, since, limit_s):
        """When the daemon said that a camera is at fault, and what it said."""
        def told(topic, payload):
            return topic == f"constancy/board/{camera}/state" and json.loads(payload).get("fault")
        seconds, payload = self.wait(f"`{camera}` is at fault and nothing says so", told, since, limit_s)
        return seconds, json.loads(payload)["fault"]

    def close(self):
        for process in (self.client, self.broker):
            process.kill()
            process.wait()


class Test:
    """The daemon on the board, and what is done to it."""

    def __init__(self, board, broker):
        self.board, self.broker = board, broker

    def configure(self, cameras):
        text = CONFIG.format(port=self.broker.port)
        text += "".join(CAMERA.format(name=name, device=device, rest=rest) for name, device, rest in cameras)
        lines = "\\n".join(text.replace("'", "").splitlines())
        self.board.run(f"printf '{lines}\\n' > /etc/constancy/constancy.toml")

    def restart(self, cameras):
        self.configure(cameras)
        since = time.monotonic()
        self.board.run("systemctl restart constancy", limit_s=60)
        return since

    def control(self, name, value=1, device="/dev/video0"):
        self.board.run(f"v4l2-ctl -d {device} -c {name}={value}")

    def log(self):
        return self.board.run("journalctl -u constancy -o cat --no-pager | tail -n 5", check=False)


def say(text):
    print(text, flush=True)


def case(name, text):
    say(f"ok  {name:<34} {text}")


def needs_camera(board):
    board.run("modprobe vivid n_devs=2 node_types=0x1,0x1 && udevadm settle", check=False, limit_s=60)
    if board.run("ls /dev/video0", check=False) != "/dev/video0":
        raise Failed("the camera driver vivid is not loaded: " + board.run("modprobe vivid", check=False))


def service(test):
    """The package as it is installed: configured for the demonstration, started, confined."""
    board = test.board
    board.run("systemctl start constancy", limit_s=60)
    found = board.run("journalctl -u constancy -o cat --no-pager | grep -c '\"schema\"' || true")
    end = time.monotonic() + 30
    while int(found) == 0 and time.monotonic() < end:
        found = board.run("journalctl -u constancy -o cat --no-pager | grep -c '\"schema\"' || true")
    if int(found) == 0:
        raise Failed("the demonstration's configuration gives no event: " + test.log())
    case("service with the demonstration", board.run("systemctl is-active constancy"))
    verdict = board.run("systemd-analyze security constancy.service --no-pager | tail -n 1", limit_s=60)
    level = float(re.search(r"service: ([0-9.]+)", verdict)[1])
    if level > 2.0:
        raise Failed(f"the installed unit is exposed at {level}")
    case("confinement", f"exposed at {level}")


def commands(test):
    """`constancy camera` as a person uses it."""
    board = test.board
    for command in ["list", "formats /dev/video0", "controls /dev/video0"]:
        text = board.run(f"constancy camera {command}")
        first = text.splitlines()[0] if text else ""
        if not text or "error" in first:
            raise Failed(f"constancy camera {command}: {text}")
        case(f"camera {command.split()[0]}", f"{len(text.splitlines())} lines: {first}")


def start(test):
    since = test.restart([("belt", "/dev/video0", "")])
    seconds, event = test.broker.event("belt", since, 60)
    pid = test.board.run("systemctl show -P MainPID constancy")
    resident = int(test.board.run(f"grep VmRSS /proc/{pid}/status").split()[1]) / 1000
    if resident > 60:
        raise Failed(f"the daemon has {resident:.1f} MB resident")
    case("first event over MQTT", f"{seconds:.1f} s after the start, {event['latency_ms']['embed']:.0f} ms in the tower")
    case("memory", f"{resident:.1f} MB resident")


def formats(test):
    """Every pixel format that the driver offers and that is claimed, by the daemon and by `camera grab`."""
    for name in FORMATS:
        since = test.restart([("belt", "/dev/video0", f'format = "{name}"')])
        test.broker.event("belt", since, 60)
        used = test.board.run("v4l2-ctl -d /dev/video0 --get-fmt-video | grep -E 'Width|Pixel|Bytes'")
        expected = {"yuyv": "YUYV", "uyvy": "UYVY", "nv12": "NV12", "grey": "GREY"}[name]
        if f"'{expected}'" not in used:
            raise Failed(f"format = \"{name}\" took {used}")
        case(f"format {name}", " ".join(used.split()))
    test.board.run("systemctl stop constancy", limit_s=30)
    # A width whose rows do not end at a multiple of anything.
    text = test.board.run("constancy camera grab /dev/video0 -o /tmp/frame.png && ls -l /tmp/frame.png")
    case("camera grab", text.splitlines()[0])


def controls(test):
    since = test.restart([("belt", "/dev/video0", "controls = { brightness = 77, hue = -20 }")])
    test.broker.event("belt", since, 60)
    found = test.board.run("v4l2-ctl -d /dev/video0 -C brightness,hue")
    if found.split() != ["brightness:", "77", "hue:", "-20"]:
        raise Failed(f"controls were set to {found}")
    case("controls applied and read back", " ".join(found.split()))


def two(test):
    since = test.restart([("belt", "/dev/video0", ""), ("gate", "/dev/video1", "")])
    for camera in ["belt", "gate"]:
        test.broker.event(camera, since, 60)
    case("two cameras at once", "events of both")


def recovers(test, name, break_, mend=None, camera="belt", told=True):
    """Breaks something, hears of it, mends it, and hears events again within the limit."""
    since = time.monotonic()
    break_()
    said = ""
    if told:
        seconds, fault = test.broker.fault(camera, since, 20)
        said = f"told after {seconds:.1f} s: {fault}; "
    since = time.monotonic()
    if mend:
        mend()
        since = time.monotonic()
    seconds, _ = test.broker.event(camera, since, 20, f"{name}: no event after it was over: " + test.log())
    if seconds > RECOVERY_S:
        raise Failed(f"{name}: events again only after {seconds:.1f} s")
    case(name, f"{said}events again after {seconds:.1f} s")


def faults(test):
    """What a camera can do wrong."""
    since = test.restart([("belt", "/dev/video0", ""), ("gate", "/dev/video1", "")])
    test.broker.event("belt", since, 60)
    control = test.control
    recovers(test, "half of the buffers dropped", lambda: control("percentage_of_dropped_buffers", 50), told=False)
    recovers(test, "no frame at all", lambda: control("percentage_of_dropped_buffers", 100),
             lambda: control("percentage_of_dropped_buffers", 0))
    recovers(test, "a corrupted buffer", lambda: control("inject_v4l2_buf_flag_error"), told=False)
    recovers(test, "a buffer refused (VIDIOC_QBUF)", lambda: control("inject_vidioc_qbuf_error"), told=False)
    recovers(test, "a fatal error of the stream (EIO)", lambda: control("inject_fatal_streaming_error"), told=False)
    recovers(test, "buffers refused when reopened", lambda: (
        control("inject_vidioc_reqbufs_error"), control("inject_fatal_streaming_error")), told=False)
    recovers(test, "stream refused when reopened", lambda: (
        control("inject_vidioc_streamon_error"), control("inject_fatal_streaming_error")), told=False)
    def reload_():
        test.board.run("rmmod vivid && modprobe vivid n_devs=2 node_types=0x1,0x1", limit_s=60)
    def unplug():
        control("disconnect")
        control("disconnect", device="/dev/video1")
    recovers(test, "unplugged, and plugged in again", unplug, reload_)
    def other_size():
        test.board.run("rmmod vivid && modprobe vivid n_devs=2 node_types=0x1,0x1 input_types=0x0,0x0 num_inputs=1,1",
                       limit_s=60)
    recovers(test, "back with other sizes", unplug, other_size)
    restarts = test.board.run("systemctl show -P NRestarts constancy")
    if restarts != "0":
        raise Failed(f"the service was restarted {restarts} times")
    case("restarts of the service", restarts)


def network(test):
    """The cable of the network is pulled: nothing is lost."""
    since = time.monotonic()
    test.board.run("ip link set eth0 down; sleep 4; ip link set eth0 up")
    test.broker.event("belt", since + 4.5, 60)
    seqs = [json.loads(p)["seq"] for t, topic, p in list(test.broker.heard) if topic == "constancy/board/belt/event" and t >= since]
    missing = set(range(min(seqs), max(seqs) + 1)) - set(seqs)
    if missing:
        raise Failed(f"events {sorted(missing)} were lost with the network")
    case("network gone for 4 s", f"{len(seqs)} events, none missing")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--without-camera", action="store_true")
    parser.add_argument("--cores", type=int, default=2)
    args = parser.parse_args()
    begun = time.monotonic()
    broker = board = None
    try:
        work = machine.prepare(args.folder.resolve(), args.package.resolve(), without=["vivid"] if args.without_camera else [])
        say(f"disk with {args.package.name} made in {time.monotonic() - begun:.0f} s")
        broker = Broker(work)
        board = machine.Board(work, args.cores)
        say(f"booted in {board.boot_s:.0f} s: {board.run('uname -srm')}, {args.cores} cores of Cortex-A76")
        test = Test(board, broker)
        needs_camera(board)
        for part in [service, commands, start, formats, controls, two, faults, network]:
            part(test)
        say(f"all passed in {time.monotonic() - begun:.0f} s")
        return 0
    except Failed as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        return 1
    finally:
        if board:
            board.off()
        if broker:
            broker.close()


if __name__ == "__main__":
    sys.exit(main())
