"""The daemon on the board: its configuration, its service, its log."""

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
stall_s = {stall_s}
[camera.v4l]
device = "{device}"
width = {width}
height = {height}
fps = 10
{more}
"""


def camera(name="belt", device="/dev/video0", width=640, height=360, stall_s=5.0, more=""):
    """Returns a camera's section. `stall_s` is the daemon's own default: shorter, a pause of the emulator would look like
    a stalled camera."""
    return CAMERA.format(name=name, device=device, width=width, height=height, stall_s=stall_s, more=more)


def finished_s(event):
    """When the decision of an event was made, by the board's monotonic clock."""
    return event["monotonic_ns"] / 1e9 + sum(event["latency_ms"].values()) / 1e3


class Daemon:
    def __init__(self, board, broker):
        self.board, self.broker = board, broker
        broker.check = board.check

    def configure(self, *cameras):
        text = CONFIG.format(port=self.broker.port) + "".join(cameras)
        # The console reads single lines.
        lines = "\\n".join(line for line in text.splitlines() if line)
        self.board.run(f"printf '{lines}\\n' > /etc/constancy/constancy.toml")

    def restart(self, *cameras):
        """Starts the daemon with these cameras; returns the position from which its messages begin."""
        self.configure(*cameras)
        self.stop()
        # Events of the old daemon may still arrive, from the broker or from the queue on disk.
        self.broker.since_s = self.board.clock()
        mark = self.broker.mark()
        self.board.run("systemctl reset-failed constancy; systemctl start constancy")
        return mark

    def stop(self):
        self.board.run("systemctl stop constancy")

    def log(self, lines=5):
        return self.board.run(f"journalctl -u constancy -o cat --no-pager -n {lines}", check=False)

    def wait_log(self, words, or_else, since="@0"):
        """Waits until the log since then, by the board's time of day, contains these words."""
        self.board.wait(lambda: words in self.board.run(
            f"journalctl -u constancy -o cat --no-pager --since={since}", check=False), or_else)

    def property(self, name):
        return self.board.run(f"systemctl show -P {name} constancy")

    def settled_state(self):
        """ActiveState, once the service is neither starting nor stopping."""
        self.board.wait(lambda: self.property("ActiveState") in ("active", "inactive", "failed"),
                        "the service neither starts nor stops")
        return self.property("ActiveState")
