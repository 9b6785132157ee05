"""Cameras: what they can do, and everything that can go wrong with them. The driver is `vivid`; its controls inject faults.

A recovery takes from the end of the fault to the decision about the first frame after it, by the board's clock.

`vivid` has no MJPEG. A software USB camera has (`usb_f_uvc` on `dummy_hcd`), but needs isochronous transfers, which
`dummy_hcd` does not support.
"""
from daemon import camera, finished_s
from machine import Failed
from report import passed, say

# After the end of a camera's fault, the daemon must publish events again within this time. The board's clock runs on
# while this machine has no processor free for the emulator; that time does not count.
RECOVERY_S = 5.0
# The daemon waits longer before it reopens a camera that ran for less than 2 s.
RUNS_WELL_S = 2.5
# The daemon's largest resident memory with pocket.
RESIDENT_MB = 60
FORMATS = {"yuyv": "YUYV", "uyvy": "UYVY", "nv12": "NV12", "grey": "GREY"}
CAMERAS = "n_devs=2 node_types=0x1,0x1"
WEBCAMS = f"{CAMERAS} num_inputs=1,1 input_types=0x0,0x0"
# A TV input that cannot scale: always 720×576.
OTHER_SIZE = f"{CAMERAS} num_inputs=1,1 input_types=0x1,0x1 ccs_cap_mode=0,0"


def needs_cameras(board):
    found = board.run("ls /dev/video0 /dev/video1", check=False)
    if found.split() != ["/dev/video0", "/dev/video1"]:
        raise Failed(f"the camera driver vivid is not loaded: {found}")


def driver(daemon):
    """Loads the driver. First makes sure that the check for cameras fails without it."""
    try:
        needs_cameras(daemon.board)
    except Failed:
        pass
    else:
        raise Failed("there are cameras before their driver is loaded")
    said = daemon.board.run(f"modprobe vivid {CAMERAS} && udevadm settle", check=False)
    try:
        needs_cameras(daemon.board)
    except Failed as failure:
        raise Failed(f"{failure}; modprobe says: {said}") from None
    passed("driver", "no camera before it is loaded, two after")


def commands(daemon):
    """Runs `constancy camera` as a person does, and prints the beginning of its output."""
    for command, needed in [("list", "/dev/video0"), ("formats /dev/video0", "640×360 at"), ("controls /dev/video0", "brightness")]:
        text = daemon.board.run(f"constancy camera {command}")
        if needed not in text:
            raise Failed(f"constancy camera {command} does not print {needed}: {text}")
        passed(f"camera {command.split()[0]}", f"{len(text.splitlines())} lines, such as")
        say("\n".join(f"        {line}" for line in text.splitlines()[:3]))
    daemon.stop()
    text = daemon.board.run("constancy camera grab /dev/video0 -o /tmp/frame.png && head -c 4 /tmp/frame.png && echo && rm /tmp/frame.png")
    if "PNG" not in text:
        raise Failed(f"constancy camera grab writes no PNG: {text}")
    passed("camera grab", text.splitlines()[0])


def start(daemon):
    """Starts on one core: small boards have little more."""
    folder = "/run/systemd/system/constancy.service.d"
    daemon.board.run(f"mkdir -p {folder} && printf '[Service]\\nCPUAffinity=0\\n' > {folder}/core.conf && systemctl daemon-reload")
    mark = daemon.restart(camera())
    event = daemon.broker.event("belt", mark)
    begun_s = int(daemon.property("ExecMainStartTimestampMonotonic")) / 1e6
    daemon.board.run(f"rm -r {folder} && systemctl daemon-reload")
    passed("start to the first event", f"{finished_s(event) - begun_s:.1f} s on one emulated core, "
           f"{event['latency_ms']['embed']:.0f} ms of it in the tower")


def formats(daemon):
    """Reads every supported pixel format that the driver offers."""
    for name, fourcc in FORMATS.items():
        taken(daemon, camera(more=f'format = "{name}"'), f"format {name}", ["640/360", f"'{fourcc}'"])


def sizes(daemon):
    """Reads the webcam's nearest size; then, from an input that scales, odd widths and row strides."""
    taken(daemon, camera(width=700, height=500), "size 700×500", ["640/480"])
    daemon.stop()
    daemon.board.run("v4l2-ctl -d /dev/video0 -i 3")
    for name, width, stride in [("grey", 333, 333), ("yuyv", 334, 668), ("nv12", 334, 334)]:
        taken(daemon, camera(width=width, height=222, more=f'format = "{name}"'), f"rows of {stride} bytes, {name}",
              [f"{width}/222", f"Line    : {stride}\n"])
    daemon.stop()
    daemon.board.run("v4l2-ctl -d /dev/video0 -i 0")


def taken(daemon, settings, name, needed):
    """Checks that this camera's frames become events and that the driver uses the configured format."""
    event = daemon.broker.event("belt", daemon.restart(settings))
    used = daemon.board.run("v4l2-ctl -d /dev/video0 --get-fmt-video")
    absent = [word for word in needed if word not in used]
    if absent:
        raise Failed(f"{name}: {absent} not in the driver's format: {used}")
    if event["damaged_frames"]:
        raise Failed(f"{name}: {event['damaged_frames']} frames could not be decoded: {daemon.log()}")
    passed(name, f"{' '.join(needed).strip()}; seen as {event['class']} ({event['score']:.2f})")


def controls(daemon):
    daemon.broker.event("belt", daemon.restart(camera(more="controls = { brightness = 77, hue = -20, horizontal_flip = 1 }")))
    found = daemon.board.run("v4l2-ctl -d /dev/video0 -C brightness,hue,horizontal_flip").split()
    if found != ["brightness:", "77", "hue:", "-20", "horizontal_flip:", "1"]:
        raise Failed(f"the controls read back as {found}")
    passed("controls", " ".join(found))


def intervention(daemon):
    """Moves the sensor's own controls while the picture stands still; they are put back at the end, and after SIGKILL by
    the daemon. `vivid` shows its gain in a line of text alone."""
    names = "brightness,contrast,saturation,hue,gain_automatic"
    read = f"v4l2-ctl -d /dev/video0 -C {names}"
    daemon.configure(camera())
    daemon.stop()
    daemon.board.run("v4l2-ctl -d /dev/video0 -c osd_text_mode=2,brightness=120,hue=5")
    before = daemon.board.run(read)
    intervene = ("STATE_DIRECTORY=/var/lib/constancy constancy camera intervene belt --config /etc/constancy/constancy.toml "
                 "--output /tmp/pairs --steps 1")
    text = daemon.board.run(intervene)
    pairs = next((line for line in text.splitlines() if line.startswith("pairs ")), "no pairs")
    absent = [f for f in ["brightness", "contrast", "saturation", "hue"] if f"2 physical-{f}" not in pairs]
    if absent or daemon.board.run(read) != before:
        raise Failed(f"camera intervene: no pairs of {absent}; {text}; the controls were {before} and are {daemon.board.run(read)}")
    passed("camera intervene", pairs)
    # Killed while a control is moved.
    daemon.board.run(f"{intervene} --controls brightness --settle 30 >/tmp/out 2>&1 & echo $! >/tmp/pid")
    daemon.board.wait(lambda: "brightness: 120" not in daemon.board.run(read), "no control is moved")
    daemon.board.run("kill -9 $(cat /tmp/pid); wait $(cat /tmp/pid)", check=False)
    left = daemon.board.run(read)
    if left == before:
        raise Failed("the killed intervention left nothing to put back")
    daemon.broker.event("belt", daemon.restart(camera()))
    if daemon.board.run(read) != before:
        raise Failed(f"after a killed intervention the controls are {daemon.board.run(read)}, not {before}")
    daemon.stop()
    daemon.board.run("rm -r /tmp/pairs /tmp/out /tmp/pid; v4l2-ctl -d /dev/video0 -c osd_text_mode=0,brightness=128,hue=0")
    passed("intervention killed", "the daemon put back " + " ".join(left.split()))


def two(daemon):
    mark = daemon.restart(camera(), camera("gate", "/dev/video1"))
    for name in ["belt", "gate"]:
        daemon.broker.event(name, mark)
    pid = daemon.property("MainPID")
    now, peak = (int(daemon.board.run(f"grep {name} /proc/{pid}/status").split()[1]) / 1000 for name in ["VmRSS", "VmHWM"])
    passed("two cameras at once", "events from both")
    if now > RESIDENT_MB:
        raise Failed(f"the daemon has {now:.1f} MB resident, expected {RESIDENT_MB} MB at most")
    passed("memory with two cameras", f"{now:.1f} MB resident, peak {peak:.1f} MB")


class Fault:
    """One thing that goes wrong."""

    def __init__(self, daemon, name):
        self.daemon, self.name, self.told_at = daemon, name, None
        # An event from before the fault: what the fault adds to the counters is counted from here.
        self.before = daemon.broker.event("belt", daemon.broker.mark(), or_else=f"{name}: no event before it")
        self.mark = daemon.broker.mark()
        self.began = "@" + daemon.board.run("date +%s")

    def happens(self, command):
        """Causes the fault, or ends it. A momentary fault is already over when this returns."""
        self.over_s = self.daemon.board.clock(command)
        self.starved_s = self.daemon.board.starved_s()

    ends = happens

    def told(self, words):
        """The camera's state and the log report the fault in these words."""
        reported = set()

        def good(state):
            reported.add(state["fault"])
            return words in (state["fault"] or "")

        try:
            state, self.told_at = self.daemon.broker.state(
                "belt", self.mark, good, f"{self.name}: no state with a fault `{words}`")
        except Failed as failure:
            raise Failed(f"{failure}; the states' faults: {sorted(filter(None, reported))}") from None
        self.daemon.wait_log(words, f"{self.name}: the log does not contain `{words}`", self.began)
        self.said = f"reported as `{state['fault']}`"

    def counted(self, key, least):
        """The events' counter rises."""
        self.daemon.broker.event("belt", self.mark, lambda e: e[key] >= self.before[key] + least,
                                 or_else=f"{self.name}: {key} does not rise by {least}")
        self.said = f"counted in {key}"

    def recovered(self):
        """Events come again, soon, and the state no longer reports the fault."""
        event = self.daemon.broker.event("belt", self.mark, lambda e: e["monotonic_ns"] / 1e9 >= self.over_s,
                                         or_else=f"{self.name}: no event after the fault")
        seconds, starved_s = finished_s(event) - self.over_s, self.daemon.board.starved_s() - self.starved_s
        if seconds - max(0.0, starved_s) > RECOVERY_S:
            raise Failed(f"{self.name}: first event only {seconds:.1f} s after the fault, expected {RECOVERY_S:.0f} s; "
                         f"the emulator waited {starved_s:.1f} s for a processor")
        if self.told_at is not None:
            self.daemon.broker.state("belt", self.told_at, lambda s: not s["fault"],
                                     f"{self.name}: the state still reports the fault")
        restarts = self.daemon.property("NRestarts")
        if restarts != "0":
            raise Failed(f"{self.name}: the service was restarted")
        passed(self.name, f"recovered in {seconds:.1f} s; {self.said}")
        well_s = finished_s(event) + RUNS_WELL_S
        self.daemon.broker.event("belt", self.mark, lambda e: e["monotonic_ns"] / 1e9 > well_s)


def control(name, value=1, device="/dev/video0"):
    return f"v4l2-ctl -d {device} -c {name}={value}"


def lost_buffers(daemon):
    daemon.restart(camera())
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
    daemon.restart(camera())
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
    daemon.restart(camera(stall_s=2.0))
    fault = Fault(daemon, "no frame for 6 s")
    fault.happens(control("percentage_of_dropped_buffers", 100))
    fault.told("no frame for")
    fault.ends(f"sleep 6 && {control('percentage_of_dropped_buffers', 0)}")
    fault.recovered()


def frozen(daemon):
    """The same picture again and again. `vivid` still shows it after reopening; the daemon then accepts it as the scene."""
    daemon.restart(camera(stall_s=2.0))
    fault = Fault(daemon, "frozen stream")
    fault.happens(control("osd_text_mode", 2))
    fault.told("the same picture, bit for bit")
    fault.ends(control("osd_text_mode", 0))
    fault.recovered()


def slower(daemon):
    """A camera that gives 1 frame/s instead of the agreed 10 is not at fault; the events show the rate."""
    daemon.restart(camera())
    fault = Fault(daemon, "rate drops to 1 frame/s")
    fault.happens("v4l2-ctl -d /dev/video0 -p 1")
    slow = set()

    def is_last(event):
        if event["monotonic_ns"] / 1e9 > fault.over_s + 1:
            slow.add(event["monotonic_ns"] / 1e9)
        return len(slow) == 5

    daemon.broker.event("belt", fault.mark, is_last, or_else=f"{fault.name}: fewer than 5 events")
    # The mean, not each gap: after a pause of the emulator, the driver catches up.
    every_s = (max(slow) - min(slow)) / (len(slow) - 1)
    if every_s < 0.5:
        raise Failed(f"{fault.name}: an event every {every_s:.2f} s")
    fault.ends("v4l2-ctl -d /dev/video0 -p 10")
    fault.said = f"an event every {every_s:.1f} s meanwhile, no fault"
    fault.recovered()


def unplugged(daemon):
    """The device disappears and returns unchanged; then with other sizes than were negotiated."""
    daemon.restart(camera(more="controls = { brightness = 77 }"))
    # The module can be removed as soon as the daemon has closed the device.
    gone = ("echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind; "
            "while test -e /sys/module/vivid && ! rmmod vivid 2>/dev/null; do sleep 0.2; done")
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
            raise Failed(f"{name}: the driver reports {found}, expected {words} and {size}")


def clock_jumps(daemon):
    """The wall clock jumps a day forward and back: no event is lost, and the order is kept."""
    mark = daemon.restart(camera())
    first = daemon.broker.event("belt", mark)
    for jump in [86400, -86400]:
        seen = daemon.broker.event("belt", daemon.broker.mark())
        daemon.board.run(f"date -s @$(($(date +%s) + {jump}))")
        later = daemon.broker.event("belt", daemon.broker.mark(), lambda e: e["seq"] > seen["seq"] + 10)
    events = daemon.broker.events("belt", mark)
    if [e["seq"] for e in events] != list(range(first["seq"], len(events))):
        raise Failed("events are missing or out of order after the clock jumped")
    if any(a["monotonic_ns"] >= b["monotonic_ns"] for a, b in zip(events, events[1:])):
        raise Failed("monotonic_ns does not increase while the clock jumps")
    if max(e["ts"] for e in events) <= later["ts"]:
        raise Failed("ts does not follow the wall clock")
    passed("clock a day forward and back", f"{len(events)} events, none missing, in order")


def network(daemon):
    """The network cable is unplugged: no event is lost."""
    mark = daemon.broker.mark()
    before = daemon.broker.event("belt", mark)
    back_s = daemon.board.clock("ip link set eth0 down; sleep 5; ip link set eth0 up")
    daemon.broker.event("belt", mark, lambda e: e["monotonic_ns"] / 1e9 > back_s, or_else="no event after the network returned")
    seqs = sorted({e["seq"] for e in daemon.broker.events("belt", mark)})
    missing = set(range(before["seq"], seqs[-1] + 1)) - set(seqs)
    if missing:
        raise Failed(f"events {sorted(missing)} were lost during the outage")
    passed("network gone for 5 s", f"{len(seqs)} events, none missing")


CASES = [driver, commands, start, formats, sizes, controls, intervention, two, lost_buffers, streams_that_end, frozen, slower, unplugged,
         clock_jumps, network]
