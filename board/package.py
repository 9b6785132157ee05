"""The package: installed, upgraded, removed and purged by dpkg, as `apt install ./…deb` does once dependencies are there."""
import re

from machine import PACKAGE, Failed
from report import passed

# Everything that an installed package may leave, but the log and the package itself.
REST = "find /etc /usr /var /run -xdev -iname '*constancy*' -not -path '/var/log/*'"


def install(daemon):
    board = daemon.board
    # By its path: the shell is busybox, which has a dpkg of its own.
    board.run(f"/usr/bin/dpkg --install /{PACKAGE}", limit_s=180)
    active = daemon.property("ActiveState")
    if active != "active":
        raise Failed(f"after the installation the service is {active}: {daemon.log()}")
    if not daemon.logged('"schema":1', limit_s=60):
        raise Failed("the installed configuration gives no event: " + daemon.log())
    passed("installed by dpkg", "the service runs with the demonstration's configuration, an event is in the journal")
    verdict = board.run("systemd-analyze security constancy.service --no-pager | tail -n 1", limit_s=60)
    level = float(re.search(r"service: ([0-9.]+)", verdict)[1])
    if level > 2.0:
        raise Failed(f"the installed unit is exposed at {level}")
    passed("confinement", f"exposed at {level}; user {daemon.property('User') or 'of its own (DynamicUser)'}")
    text = board.run("cat /usr/share/bash-completion/completions/constancy | wc -l; ls /usr/share/man/man1 | grep -c constancy")
    lines, pages = text.split()
    passed("manual pages and completions", f"{pages} pages, {lines} lines of bash")


def upgrade(daemon):
    """The same path as to another version: prerm upgrade, postinst configure."""
    board = daemon.board
    before = daemon.property("MainPID")
    changed = board.run("cat /etc/constancy/constancy.toml")
    board.run(f"/usr/bin/dpkg --install /{PACKAGE}", limit_s=180)
    after, active = daemon.property("MainPID"), daemon.property("ActiveState")
    if active != "active" or after == before:
        raise Failed(f"after the upgrade the service is {active}, process {before} before and {after} now")
    if board.run("cat /etc/constancy/constancy.toml") != changed:
        raise Failed("the upgrade replaced a configuration that was edited")
    passed("upgraded by dpkg", "the edited configuration stays, the service was restarted")


def purge(daemon):
    board = daemon.board
    board.run("/usr/bin/dpkg --remove constancy", limit_s=180)
    left = board.run(REST, limit_s=120).split()
    if "/etc/constancy/constancy.toml" not in left:
        raise Failed("removing took the configuration, which only purging may")
    if any(path.startswith("/usr") for path in left):
        raise Failed(f"removing left {left}")
    if board.run("systemctl is-active constancy", check=False) == "active":
        raise Failed("removed, and the service runs")
    board.run("/usr/bin/dpkg --purge constancy", limit_s=180)
    left = board.run(REST, limit_s=120).split()
    if left:
        raise Failed(f"purging left {left}")
    failed = board.run("systemctl --failed --plain --no-legend --no-pager | cat")
    if failed:
        raise Failed(f"units failed: {failed}")
    passed("removed and purged by dpkg", "nothing is left")
