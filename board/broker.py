"""A mosquitto on this machine, and everything that the board published there."""
import json, shutil, socket, subprocess, threading, time

from machine import Failed


class Broker:
    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        config = folder / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        program = shutil.which("mosquitto")
        self.broker = subprocess.Popen([program, "-c", config], stderr=subprocess.DEVNULL)
        self._wait_for_port()
        self.heard, self.changed = [], threading.Condition()
        self.client = subprocess.Popen(
            ["mosquitto_sub", "-p", str(self.port), "-q", "1", "-t", "constancy/#", "-F", "%t\t%p"],
            stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._listen, daemon=True).start()

    def _wait_for_port(self):
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise Failed("mosquitto does not start")

    def _listen(self):
        for line in self.client.stdout:
            topic, _, payload = line.rstrip("\n").partition("\t")
            with self.changed:
                self.heard.append((topic, payload))
                self.changed.notify_all()

    def mark(self):
        """From where on `wait` looks: what comes after now."""
        with self.changed:
            return len(self.heard)

    def wait(self, topic, good, mark, limit_s, or_else):
        """The first message on `topic` since `mark` that is good, as JSON, and from where on later ones are."""
        end = time.monotonic() + limit_s
        with self.changed:
            while True:
                for at, (heard, payload) in enumerate(self.heard[mark:], mark + 1):
                    if heard == topic and good(message := json.loads(payload)):
                        return message, at
                mark = len(self.heard)
                if not self.changed.wait(max(0.0, end - time.monotonic())):
                    raise Failed(f"{or_else} within {limit_s} s")

    def event(self, camera, mark, good=lambda event: True, limit_s=40, or_else=""):
        return self.wait(f"constancy/board/{camera}/event", good, mark, limit_s, or_else or f"no event of `{camera}`")[0]

    def state(self, camera, mark, good, or_else, limit_s=40):
        return self.wait(f"constancy/board/{camera}/state", good, mark, limit_s, or_else)

    def events(self, camera, mark=0):
        with self.changed:
            return [json.loads(p) for topic, p in self.heard[mark:] if topic == f"constancy/board/{camera}/event"]

    def close(self):
        for process in (self.client, self.broker):
            process.kill()
            process.wait()
