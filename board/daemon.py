"""The daemon on the board: its configuration, its service, its log."""
import time

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


def camera(name="belt", device="/dev/video0", width=640, height=360, stall_s=2.0, more=""):
    return CAMERA.format(name=name, device=device, width=width, height=height, stall_s=stall_s, more=more)


def finished_s(event):
    """When an event's decision was made, by the board's monotonic clock."""
    return event["monotonic_ns"] / 1e9 + sum(event["latency_ms"].values()) / 1e3


class Daemon:
    def __init__(self, board, broker):
        self.board, self.broker = board, broker

    def configure(self, *cameras):
        text = CONFIG.format(port=self.broker.port) + "".join(cameras)
        # The console takes one line.
        lines = "\\n".join(line for line in text.splitlines() if line)
        self.board.run(f"printf '{lines}\\n' > /etc/constancy/constancy.toml")

    def restart(self, *cameras):
        """Starts it with these cameras; returns from where on its messages are."""
        self.configure(*cameras)
        self.stop()
        mark = self.broker.mark()
        self.board.run("systemctl reset-failed constancy; systemctl start constancy", limit_s=90)
        return mark

    def stop(self):
        self.board.run("systemctl stop constancy", limit_s=90)

    def log(self, lines=5):
        return self.board.run(f"journalctl -u constancy -o cat --no-pager -n {lines}", check=False)

    def logged(self, words, since="@0", limit_s=30):
        """Whether the log has these words, by and by, since a time of the board's."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            if words in self.board.run(f"journalctl -u constancy -o cat --no-pager --since={since}", check=False):
                return True
            time.sleep(0.2)
        return False

    def property(self, name):
        return self.board.run(f"systemctl show -P {name} constancy")
