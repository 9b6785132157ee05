"""Cameras: what they can do, and everything that can go wrong with them. The driver is `vivid`, whose controls inject faults.

Times are the board's own: from the end of a fault to the decision about the first frame after it.

`vivid` gives no MJPEG. A USB camera in software would (`usb_f_uvc` on `dummy_hcd`), but it streams by isochronous transfers,
which `dummy_hcd` does not carry.
"""
from daemon import camera, finished_s
from machine import Failed
from report import passed, say

# Within which the daemon has to be back after a camera's fault is over.
RECOVERY_S = 5.0
# A camera that ran for less than 2 s is opened again later than one that ran well.
RUNS_WELL_S = 2.5
# The most that the daemon may have resident with pocket.
RESIDENT_MB = 60
FORMATS = {"yuyv": "YUYV", "uyvy": "UYVY", "nv12": "NV12", "grey": "GREY"}
CAMERAS = "n_devs=2 node_types=0x1,0x1"
WEBCAMS = f"{CAMERAS} num_inputs=1,1 input_types=0x0,0x0"
# A television's input that cannot scale: 720×576, whatever is asked for.
OTHER_SIZE = f"{CAMERAS} num_inputs=1,1 input_types=0x1,0x1 ccs_cap_mode=0,0"


def needs_cameras(board):
    found = board.run("ls /dev/video0 /dev/video1", check=False)
    if found.split() != ["/dev/video0", "/dev/video1"]:
        raise Failed(f"the camera driver vivid is not loaded: {found}")


def driver(daemon):
    """The check for the cameras is tried before there are any."""
    try:
        needs_cameras(daemon.board)
    except Failed:
        pass
    else:
        raise Failed("there are cameras before their driver is loaded")
    said = daemon.board.run(f"modprobe vivid {CAMERAS} && udevadm settle", check=False, limit_s=60)
    try:
        needs_cameras(daemon.board)
    except Failed as failure:
        raise Failed(f"{failure}; modprobe says: {said}") from None
    passed("driver", "not there before it is loaded, two cameras after")


def commands(daemon):
    """`constancy camera` as a person uses it; what it prints is shown."""
    for command, needed in [("list", "/dev/video0"), ("formats /dev/video0", "640×360 at"), ("controls /dev/video0", "brightness")]:
        text = daemon.board.run(f"constancy camera {command}")
        if needed not in text:
            raise Failed(f"constancy camera {command} says nothing of {needed}: {text}")
        passed(f"camera {command.split()[0]}", f"{len(text.splitlines())} lines, as")
        say("\n".join(f"        {line}" for line in text.splitlines()[:3]))
    daemon.stop()
    text = daemon.board.run("constancy camera grab /dev/video0 -o /tmp/frame.png && head -c 4 /tmp/frame.png && echo && rm /tmp/frame.png")
    if "PNG" not in text:
        raise Failed(f"constancy camera grab writes no PNG: {text}")
    passed("camera grab", text.splitlines()[0])


def start(daemon):
    """On one core, as the boards with the least have their hands full."""
    folder = "/run/systemd/system/constancy.service.d"
    daemon.board.run(f"mkdir -p {folder} && printf '[Service]\\nCPUAffinity=0\\n' > {folder}/core.conf && systemctl daemon-reload",
                     limit_s=60)
    mark = daemon.restart(camera())
    event = daemon.broker.event("belt", mark)
    begun_s = int(daemon.property("ExecMainStartTimestampMonotonic")) / 1e6
    daemon.board.run(f"rm -r {folder} && systemctl daemon-reload", limit_s=60)
    passed("start to the first event", f"{finished_s(event) - begun_s:.1f} s on one emulated core, "
           f"{event['latency_ms']['embed']:.0f} ms of it in the tower")


def formats(daemon):
    """Every pixel format that the driver offers and that is claimed."""
    for name, fourcc in FORMATS.items():
        taken(daemon, camera(more=f'format = "{name}"'), f"format {name}", ["640/360", f"'{fourcc}'"])


def sizes(daemon):
    """The nearest of a webcam's sizes; then, from an input that scales, rows that end at no multiple of anything."""
    taken(daemon, camera(width=700, height=500), "size 700×500", ["640/480"])
    daemon.stop()
    daemon.board.run("v4l2-ctl -d /dev/video0 -i 3")
    for name, width, stride in [("grey", 333, 333), ("yuyv", 334, 668), ("nv12", 334, 334)]:
        taken(daemon, camera(width=width, height=222, more=f'format = "{name}"'), f"rows of {stride} bytes, {name}",
              [f"{width}/222", f"Line    : {stride}\n"])
    daemon.stop()
    daemon.board.run("v4l2-ctl -d /dev/video0 -i 0")


def taken(daemon, settings, name, needed):
    """Frames of this camera become events, and the driver's format is the one that was asked for."""
    event = daemon.broker.event("belt", daemon.restart(settings))
    used = daemon.board.run("v4l2-ctl -d /dev/video0 --get-fmt-video")
    absent = [word for word in needed if word not in used]
    if absent:
        raise Failed(f"{name}: the driver's format lacks {absent}: {used}")
    if event["damaged_frames"]:
        raise Failed(f"{name}: {event['damaged_frames']} frames could not be decoded: {daemon.log()}")
    passed(name, f"{' '.join(needed).strip()}; seen as {event['class']} ({event['score']:.2f})")


def controls(daemon):
    daemon.broker.event("belt", daemon.restart(camera(more="controls = { brightness = 77, hue = -20, horizontal_flip = 1 }")))
    found = daemon.board.run("v4l2-ctl -d /dev/video0 -C brightness,hue,horizontal_flip").split()
    if found != ["brightness:", "77", "hue:", "-20", "horizontal_flip:", "1"]:
        raise Failed(f"controls were set to {found}")
    passed("controls", " ".join(found))


def two(daemon):
    mark = daemon.restart(camera(), camera("gate", "/dev/video1"))
    for name in ["belt", "gate"]:
        daemon.broker.event(name, mark)
    pid = daemon.property("MainPID")
    now, peak = (int(daemon.board.run(f"grep {name} /proc/{pid}/status").split()[1]) / 1000 for name in ["VmRSS", "VmHWM"])
    passed("two cameras at once", "events of both")
    if now > RESIDENT_MB:
        raise Failed(f"the daemon has {now:.1f} MB resident")
    passed("memory with two cameras", f"{now:.1f} MB resident, {peak:.1f} MB at the most")


class Fault:
    """One thing that goes wrong."""

    def __init__(self, daemon, name):
        self.daemon, self.name, self.told_at = daemon, name, None
        self.mark = daemon.broker.mark()
        self.began = "@" + daemon.board.run("date +%s")

    def happens(self, command):
        self.over_s = self.daemon.board.clock(command)

    ends = happens

    def told(self, words):
        """The camera's state and the log say so."""
        state, self.told_at = self.daemon.broker.state(
            "belt", self.mark, lambda s: s["fault"], f"{self.name}: the state does not tell it")
        if words not in state["fault"]:
            raise Failed(f"{self.name}: the state says `{state['fault']}`, expected `{words}`")
        if not self.daemon.logged(words, self.began):
            raise Failed(f"{self.name}: the log does not say `{words}`: {self.daemon.log()}")
        self.said = f"told as `{state['fault']}`"

    def counted(self, key, least):
        """Events count it."""
        first = self.daemon.broker.event("belt", self.mark)
        self.daemon.broker.event("belt", self.mark, lambda e: e[key] >= first[key] + least,
                                 or_else=f"{self.name}: {key} does not rise by {least}")
        self.said = f"counted in {key}"

    def recovered(self):
        """Events again, soon; and a state without fault where there was one."""
        event = self.daemon.broker.event("belt", self.mark, lambda e: e["monotonic_ns"] / 1e9 >= self.over_s,
                                         or_else=f"{self.name}: no event after it was over")
        seconds = finished_s(event) - self.over_s
        if seconds > RECOVERY_S:
            raise Failed(f"{self.name}: events again only after {seconds:.1f} s")
        if self.told_at is not None:
            self.daemon.broker.state("belt", self.told_at, lambda s: not s["fault"], f"{self.name}: the state keeps the fault")
        restarts = self.daemon.property("NRestarts")
        if restarts != "0":
            raise Failed(f"{self.name}: the service was restarted")
        passed(self.name, f"events again after {seconds:.1f} s; {self.said}")
        well_s = finished_s(event) + RUNS_WELL_S
        self.daemon.broker.event("belt", self.mark, lambda e: e["monotonic_ns"] / 1e9 > well_s)


def control(name, value=1, device="/dev/video0"):
    return f"v4l2-ctl -d {device} -c {name}={value}"


def lost_buffers(daemon):
    daemon.broker.event("belt", daemon.restart(camera()))
    fault = Fault(daemon, "half of the buffers dropped")
    fault.happens(control("percentage_of_dropped_buffers", 50))
    fault.counted("dropped_frames", 3)
    fault.ends(control("percentage_of_dropped_buffers", 0))
    fault.recovered()
    fault = Fault(daemon, "a corrupted buffer")
    fault.happens(control("inject_v4l2_buf_flag_error"))
    fault.counted("damaged_frames", 1)
    fault.recovered()


def streams_that_end(daemon):
    daemon.broker.event("belt", daemon.restart(camera()))
    for name, command, words in [
        ("unplugged for a moment", control("disconnect"), "/dev/video0"),
        ("fatal error of the stream (EIO)", control("inject_fatal_streaming_error"), "failed"),
        ("a buffer refused", control("inject_vidioc_qbuf_error"), "failed"),
        ("buffers refused when reopened", f"{control('inject_vidioc_reqbufs_error')},inject_fatal_streaming_error=1", "failed"),
        ("start refused when reopened", f"{control('inject_vidioc_streamon_error')},inject_fatal_streaming_error=1", "failed"),
    ]:
        fault = Fault(daemon, name)
        fault.happens(command)
        fault.told(words)
        fault.recovered()
    fault = Fault(daemon, "no frame for 6 s")
    fault.happens(control("percentage_of_dropped_buffers", 100))
    fault.told("no frame for")
    fault.ends(f"sleep 6 && {control('percentage_of_dropped_buffers', 0)}")
    fault.recovered()


def frozen(daemon):
    """The same picture again and again. `vivid` keeps it when it is reopened, which then counts as the scene."""
    daemon.broker.event("belt", daemon.restart(camera(stall_s=1.0)))
    fault = Fault(daemon, "frozen stream")
    fault.happens(control("osd_text_mode", 2))
    fault.told("the same picture, bit for bit")
    fault.ends(control("osd_text_mode", 0))
    fault.recovered()


def slower(daemon):
    """A camera that gives 1 frame/s where 10 were agreed is no fault; the rate shows in the events."""
    mark = daemon.restart(camera(stall_s=3.0))
    daemon.broker.event("belt", mark)
    fault = Fault(daemon, "rate drops to 1 frame/s")
    fault.happens("v4l2-ctl -d /dev/video0 -p 1")
    daemon.board.run("sleep 5")
    times = [e["monotonic_ns"] / 1e9 for e in daemon.broker.events("belt", fault.mark)]
    slow = [at for at in times if at > fault.over_s + 1]
    gaps = [b - a for a, b in zip(slow, slow[1:])]
    if len(gaps) < 2 or min(gaps) < 0.5:
        raise Failed(f"at 1 frame/s events come every {gaps} s")
    fault.ends("v4l2-ctl -d /dev/video0 -p 10")
    fault.said = f"events every {sum(gaps) / len(gaps):.1f} s meanwhile, no fault"
    fault.recovered()


def unplugged(daemon):
    """The device goes, and comes back as it was; then with other sizes than were negotiated."""
    daemon.broker.event("belt", daemon.restart(camera(more="controls = { brightness = 77 }")))
    gone = "echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind; sleep 1; rmmod vivid"
    for name, options, words, size in [
        ("unplugged for 5 s, plugged in again", WEBCAMS, "brightness: 77", "640/360"),
        ("back with another resolution", OTHER_SIZE, "brightness: 77", "720/576"),
        ("back with the first resolution", WEBCAMS, "brightness: 77", "640/360"),
    ]:
        fault = Fault(daemon, name)
        fault.happens(gone)
        fault.told("/dev/video0")
        fault.ends(f"sleep 5 && modprobe vivid {options}")
        fault.recovered()
        found = daemon.board.run("v4l2-ctl -d /dev/video0 -C brightness --get-fmt-video")
        if words not in found or size not in found:
            raise Failed(f"{name}: the driver has {found}")


def clock_jumps(daemon):
    """The time of day jumps forward and back: nothing is lost, and the order stays."""
    mark = daemon.restart(camera())
    first = daemon.broker.event("belt", mark)
    for jump in [86400, -86400]:
        seen = daemon.broker.event("belt", daemon.broker.mark())
        daemon.board.run(f"date -s @$(($(date +%s) + {jump}))")
        later = daemon.broker.event("belt", daemon.broker.mark(), lambda e: e["seq"] > seen["seq"] + 10)
    events = daemon.broker.events("belt", mark)
    if [e["seq"] for e in events] != list(range(first["seq"], len(events))):
        raise Failed("events were lost or change places as the clock jumps")
    if any(a["monotonic_ns"] >= b["monotonic_ns"] for a, b in zip(events, events[1:])):
        raise Failed("monotonic_ns does not rise as the clock jumps")
    if max(e["ts"] for e in events) <= later["ts"]:
        raise Failed("ts does not follow the clock")
    passed("clock a day forward and back", f"{len(events)} events, none missing, in order")


def network(daemon):
    """The cable of the network is pulled: nothing is lost."""
    mark = daemon.broker.mark()
    before = daemon.broker.event("belt", mark)
    back_s = daemon.board.clock("ip link set eth0 down; sleep 5; ip link set eth0 up")
    daemon.broker.event("belt", mark, lambda e: e["monotonic_ns"] / 1e9 > back_s, or_else="no event after the network was back")
    seqs = sorted({e["seq"] for e in daemon.broker.events("belt", mark)})
    missing = set(range(before["seq"], seqs[-1] + 1)) - set(seqs)
    if missing:
        raise Failed(f"events {sorted(missing)} were lost with the network")
    passed("network gone for 5 s", f"{len(seqs)} events, none missing")


CASES = [driver, commands, start, formats, sizes, controls, two, lost_buffers, streams_that_end, frozen, slower, unplugged,
         clock_jumps, network]
