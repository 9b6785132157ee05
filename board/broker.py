"""A mosquitto on this machine, and every message that the board published to it."""
import json, shutil, socket, subprocess, threading, time

from machine import Failed


class Broker:
    def __init__(self, folder, deadline):
        self.deadline = deadline
        self.messages, self.changed = [], threading.Condition()
        # When the daemon under test was started, by the board's clock: its predecessor's frames are older.
        self.since_s = 0.0
        # Raises if waiting for a message is pointless, because the board is off.
        self.check = lambda: None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        config = folder / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        program = shutil.which("mosquitto")
        self.broker = subprocess.Popen([program, "-c", config], stderr=subprocess.DEVNULL)
        try:
            self._wait_for_port()
            self.client = subprocess.Popen(
                ["mosquitto_sub", "-p", str(self.port), "-q", "1", "-t", "constancy/#", "-F", "%t\t%p"],
                stdout=subprocess.PIPE, text=True)
        except BaseException:
            self.broker.kill()
            raise
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self._wait_for_subscription()
        except BaseException:
            self.close()
            raise

    def _wait_for_port(self):
        while not self.deadline.is_over():
            if self.broker.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise Failed("mosquitto does not start")

    def _wait_for_subscription(self):
        """A retained message arrives as soon as the subscription is in force."""
        topic = "constancy/subscribed"
        subprocess.run(["mosquitto_pub", "-p", str(self.port), "-q", "1", "-r", "-t", topic, "-m", "{}"], check=True)
        self.wait(topic, lambda message: True, 0, "mosquitto_sub does not get its subscription")

    def _listen(self):
        for line in self.client.stdout:
            topic, _, payload = line.rstrip("\n").partition("\t")
            with self.changed:
                self.messages.append((topic, payload))
                self.changed.notify_all()

    def mark(self):
        """The position that `wait` starts from: messages after it came after this call."""
        with self.changed:
            return len(self.messages)

    def wait(self, topic, good, mark, or_else):
        """Returns the first good message on `topic` after `mark`, as JSON, and the position after it."""
        with self.changed:
            while True:
                for at, (heard, payload) in enumerate(self.messages[mark:], mark + 1):
                    if heard == topic and good(message := json.loads(payload)):
                        return message, at
                mark = len(self.messages)
                if self.deadline.is_over():
                    raise Failed(f"{or_else}; {self.deadline}")
                # Wakes up now and then to look whether the board is still there.
                if not self.changed.wait(min(2.0, self.deadline.left_s())):
                    self.check()

    def _is_current(self, event):
        return event["monotonic_ns"] / 1e9 >= self.since_s

    def event(self, camera, mark, good=lambda event: True, or_else=""):
        """Returns the first good event of the running daemon after `mark`."""
        return self.wait(f"constancy/board/{camera}/event", lambda event: self._is_current(event) and good(event), mark,
                         or_else or f"no event of `{camera}`")[0]

    def state(self, camera, mark, good, or_else):
        return self.wait(f"constancy/board/{camera}/state", good, mark, or_else)

    def events(self, camera, mark=0):
        """Returns the running daemon's events after `mark`, each once: delivery is at least once."""
        with self.changed:
            events = [json.loads(p) for topic, p in self.messages[mark:] if topic == f"constancy/board/{camera}/event"]
        return list({event["id"]: event for event in events if self._is_current(event)}.values())

    def close(self):
        for process in (self.client, self.broker):
            process.kill()
            process.wait()
