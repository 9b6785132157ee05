"""An emulated ARM board: Debian's packages unpacked into a root file system and booted by QEMU, with Debian's kernel and
systemd.

Installs nothing on this machine and leaves apt's configuration alone. Keeps its downloads.
"""
import os, pathlib, queue, re, shutil, subprocess, threading, time

# dpkg, and the programs that it and the packages' scripts call: the board installs the package as any Debian does.
ROOT_PACKAGES = ["usr-is-merged", "systemd", "udev", "kmod", "v4l-utils", "busybox-static", "iproute2", "libgcc-s1",
                 "dpkg", "libc-bin", "perl-base", "init-system-helpers"]
KERNEL = "linux-image-arm64"
# ext4 requests crc32c by name, so modules.dep does not list it.
MODULES = ["virtio_mmio", "virtio_blk", "virtio_net", "crc32c_generic", "ext4", "vivid"]
MARK = "@@"
# Path of the package under test on the board.
PACKAGE = "root/constancy.deb"
# Debian keeps mke2fs and depmod there; PATH of ordinary users lacks both.
os.environ["PATH"] += ":/usr/sbin:/sbin"


class Failed(Exception):
    """What went wrong, in one line."""


class Deadline:
    """The only limit in real time, for the whole run: on a busy machine every single step may take long."""

    def __init__(self, limit_s):
        self.limit_s, self.end = limit_s, time.monotonic() + limit_s

    def left_s(self):
        return max(0.0, self.end - time.monotonic())

    def is_over(self):
        return not self.left_s()

    def __str__(self):
        return f"gave up when the run's {self.limit_s:.0f} s were over (--limit-s)"


def run(*command, **options):
    result = subprocess.run(command, capture_output=True, text=True, **options)
    if result.returncode:
        raise Failed(f"{' '.join(map(str, command))}: {result.stderr.strip() or result.stdout.strip()}")
    return result.stdout


def apt(folder, *arguments):
    """Runs apt-get for an ARM machine with no package installed, from this machine's own archive."""
    for sub in ["lists/partial", "cache/archives/partial"]:
        (folder / sub).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    options = ["APT::Architecture=arm64", "APT::Architectures=arm64", "APT::Sandbox::User=root",
               f"Dir::State::status={folder}/status", f"Dir::State::lists={folder}/lists", f"Dir::Cache={folder}/cache"]
    return run("apt-get", "-qq", *(word for option in options for word in ("-o", option)), *arguments)


def download(folder):
    """Returns the packages' files. Downloads them once for each list of packages."""
    asked = " ".join([*ROOT_PACKAGES, KERNEL])
    wanted = folder / "wanted"
    if not wanted.exists() or wanted.read_text().splitlines()[0] != asked:
        # apt does not list files that are in its cache already.
        shutil.rmtree(folder / "cache", ignore_errors=True)
        apt(folder, "update")
        lines = apt(folder, "--print-uris", "--no-install-recommends", "--yes", "install", *ROOT_PACKAGES, KERNEL)
        apt(folder, "--download-only", "--no-install-recommends", "--yes", "install", *ROOT_PACKAGES, KERNEL)
        wanted.write_text(asked + "\n" + "".join(line.split()[1] + "\n" for line in lines.splitlines()))
    return [folder / "cache/archives" / name for name in wanted.read_text().splitlines()[1:]]


def unpack(package, root):
    archive = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
    # /bin and /lib stay links into /usr.
    run("tar", "-x", "--keep-directory-symlink", "-C", root, stdin=archive.stdout)
    if archive.wait():
        raise Failed(f"{package} is not a Debian package; delete {package.parents[2]} and run this again")


def know_packages(root, packages):
    """Writes dpkg's database of installed packages, which unpacking by hand does not."""
    database = root / "var/lib/dpkg"
    for name in ["info", "updates", "triggers", "parts", "alternatives"]:
        (database / name).mkdir(parents=True, exist_ok=True)
    (database / "info/format").write_text("1\n")
    paragraphs = []
    for package in packages:
        control = run("dpkg-deb", "--field", package).rstrip("\n")
        fields = dict(line.split(": ", 1) for line in control.splitlines() if re.match(r"[A-Z][^ ]*: ", line))
        same = ":" + fields["Architecture"] if fields.get("Multi-Arch") == "same" else ""
        (database / f"info/{fields['Package']}{same}.list").touch()
        paragraphs.append(control.replace("\n", "\nStatus: install ok installed\n", 1) + "\n")
    (database / "status").write_text("\n".join(paragraphs))
    (database / "available").touch()


def make_root(root, packages):
    """Unpacks Debian without running installation scripts; writes users, network and a console shell by hand."""
    shutil.rmtree(root, ignore_errors=True)
    for name in ["bin", "sbin", "lib"]:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for package in packages:
        unpack(package, root)
    know_packages(root, packages)
    files = {
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        "etc/group": "root:x:0:\ntty:x:5:\ndisk:x:6:\nkmem:x:15:\ndialout:x:20:\ncdrom:x:24:\naudio:x:29:\nvideo:x:44:\n"
        "input:x:101:\nsgx:x:102:\nkvm:x:103:\nrender:x:104:\nlp:x:7:\ntape:x:26:\nutmp:x:43:\nnogroup:x:65534:\n",
        "etc/hostname": "board\n",
        "etc/hosts": "127.0.0.1 localhost board\n",
        "etc/fstab": "",
        "etc/machine-id": "",
        "etc/systemd/network/wired.network": "[Match]\nName=e*\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n",
        # The only console: the host types commands into it. An interactive shell would edit the line.
        "etc/systemd/system/console.service": "[Service]\nStandardInput=tty-force\nStandardOutput=tty\n"
        "TTYPath=/dev/ttyAMA0\nEnvironment=PATH=/usr/sbin:/usr/bin SYSTEMD_COLORS=0\n"
        "ExecStart=/bin/sh /etc/console.sh\n",
        "etc/console.sh": 'stty -echo\necho @@ready\nwhile read -r line; do eval "$line"; done\n',
        # A service that starts or stops slowly has not failed: the emulator may be slow.
        "etc/systemd/system/service.d/slow.conf": "[Service]\nTimeoutStartSec=15min\nTimeoutStopSec=5min\n",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for applet in ["sh", "cat", "ls", "mount", "umount", "sleep", "grep", "stty", "kill", "df", "dd", "rm", "mkdir",
                   "date", "cut", "ps", "sync", "touch", "tail", "head", "chmod", "wc", "mv", "cp", "diff", "find",
                   "readlink", "ln", "rmdir", "sed", "true"]:
        if not (root / "usr/bin" / applet).exists():
            (root / "usr/bin" / applet).symlink_to("busybox")
    choose_units(root)
    run("systemd-sysusers", f"--root={root}")


def choose_units(root):
    """Makes systemd start the console and the network, and masks what one test run does not need."""
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / "console.service").symlink_to("/etc/systemd/system/console.service")
    (wants / "systemd-networkd.service").symlink_to("/usr/lib/systemd/system/systemd-networkd.service")
    (root / "etc/systemd/system/default.target").symlink_to("/usr/lib/systemd/system/multi-user.target")
    for unit in ["getty.target", "systemd-firstboot.service", "systemd-update-done.service", "apt-daily.timer",
                 "systemd-hwdb-update.service", "ldconfig.service", "systemd-journal-catalog-update.service"]:
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")


def keep_modules(root, without):
    """Deletes all kernel modules but the needed ones; returns the kernel's version."""
    folder = next((root / "usr/lib/modules").iterdir())
    run("depmod", "-b", root, folder.name)
    needs = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[re.sub(r"\.ko.*", "", pathlib.Path(path).name)] = [path, *rest.split()]
    kept = {path for module in MODULES for path in needs.get(module, []) if module not in without}
    for path in folder.rglob("*.ko*"):
        if str(path.relative_to(folder)) not in kept:
            path.unlink()
    run("depmod", "-b", root, folder.name)
    return folder.name


def make_initramfs(root, version, file):
    """Makes the initramfs that mounts the disk: a static shell and the disk's drivers."""
    small = file.parent / "initramfs"
    shutil.rmtree(small, ignore_errors=True)
    for name in ["bin", "proc", "sys", "dev", "new"]:
        (small / name).mkdir(parents=True)
    shutil.copy(root / "usr/bin/busybox", small / "bin/busybox")
    folder = f"usr/lib/modules/{version}"
    shutil.copytree(root / folder, small / "lib/modules" / version)
    for path in (small / "lib/modules").rglob("*.ko*"):
        if "media" in path.parts:
            path.unlink()
    (small / "init").write_text(
        "#!/bin/busybox sh\n/bin/busybox --install -s /bin\nmount -t proc proc /proc\nmount -t devtmpfs dev /dev\n"
        f"for module in {' '.join(m for m in MODULES if m != 'vivid')}; do modprobe $module; done\n"
        "while ! mount -t ext4 /dev/vda /new; do sleep 0.1; done\n"
        "umount /proc /dev\nexec switch_root /new /lib/systemd/systemd\n")
    (small / "init").chmod(0o755)
    with open(file, "wb") as out:
        find = subprocess.Popen(["find", ".", "-print0"], cwd=small, stdout=subprocess.PIPE)
        cpio = subprocess.Popen(["cpio", "-o", "-0", "-H", "newc", "--quiet"], cwd=small, stdin=find.stdout,
                                stdout=subprocess.PIPE)
        subprocess.run(["gzip", "-1"], stdin=cpio.stdout, stdout=out, check=True)


def prepare(folder, package, without=()):
    """Makes kernel, initramfs and disk in `folder`."""
    packages = download(folder / "packages")
    work = folder / "board"
    work.mkdir(parents=True, exist_ok=True)
    root = work / "root"
    make_root(root, packages)
    (root / PACKAGE).parent.mkdir(mode=0o700)
    shutil.copy(package, root / PACKAGE)
    kernel = next((root / "boot").glob("vmlinuz-*"))
    shutil.copy(kernel, work / "vmlinuz")
    version = keep_modules(root, without)
    make_initramfs(root, version, work / "initrd")
    shutil.rmtree(root / "boot")
    for name in ["usr/share/locale", "usr/share/i18n", "usr/share/doc", "usr/share/man", "usr/lib/udev/hwdb.d"]:
        shutil.rmtree(root / name, ignore_errors=True)
    disk = work / "disk"
    disk.unlink(missing_ok=True)
    run("mke2fs", "-q", "-t", "ext4", "-d", root, disk, "700M")
    return work


class Board:
    """A booted board with a shell. Times are read from the board's own clock, so that the console's delay is not in
    them."""

    def __init__(self, work, deadline, cores=2, memory_mb=1024, core="cortex-a76"):
        self.deadline = deadline
        self.lines = queue.Queue()
        self.started = time.monotonic()
        self.log = open(work / "console.log", "w")
        self.process = subprocess.Popen(
            ["qemu-system-aarch64", "-M", "virt", "-cpu", core, "-m", str(memory_mb), "-smp", str(cores), "-nographic",
             "-no-reboot", "-kernel", work / "vmlinuz", "-initrd", work / "initrd", "-snapshot",
             "-drive", f"file={work / 'disk'},format=raw,if=none,id=d", "-device", "virtio-blk-device,drive=d",
             "-netdev", "user,id=n", "-device", "virtio-net-device,netdev=n",
             "-append", "console=ttyAMA0 quiet loglevel=1 systemd.show_status=0 systemd.log_target=journal rw"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self._wait_for_shell()
        except BaseException:
            self.off()
            raise

    def _read(self):
        rest = b""
        while chunk := os.read(self.process.stdout.fileno(), 65536):
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                text = line.decode(errors="replace").rstrip("\r")
                self.log.write(text + "\n")
                self.log.flush()
                self.lines.put(text)
        self.lines.put(None)

    def _next_line(self, doing):
        """The next line on the console."""
        try:
            line = self.lines.get(timeout=max(0.01, self.deadline.left_s()))
        except queue.Empty:
            raise Failed(f"{doing} does not end; {self.deadline}; see console.log") from None
        if line is None:
            # For whoever asks again.
            self.lines.put(None)
            raise Failed(f"the board went off: {doing}; see console.log")
        return line

    def _wait_for_shell(self):
        # Input may be lost until the console is open.
        while self._next_line("booting") != MARK + "ready":
            pass
        self.boot_s = time.monotonic() - self.started

    def _type(self, text):
        try:
            self.process.stdin.write(text.encode() + b"\n")
        except BrokenPipeError:
            raise Failed("the board went off; see console.log") from None

    def run(self, command, check=True):
        """Runs a command on the board; returns its output."""
        number = f"{time.monotonic_ns()}"
        self._type(f"( {command} ) 2>&1; echo @'@'{number} $?")
        out = []
        while True:
            line = self._next_line(f"`{command}` on the board")
            if line.startswith(MARK + number):
                code = int(line.split()[1])
                if code and check:
                    raise Failed(f"`{command}` on the board ended with {code}: " + " | ".join(out[-5:]))
                return "\n".join(out)
            if not line.startswith(MARK):
                out.append(line)

    def wait(self, condition, or_else):
        """Asks again and again until the condition holds."""
        while not condition():
            if self.deadline.is_over():
                raise Failed(f"{or_else}; {self.deadline}")
            time.sleep(0.5)

    def clock(self, command="true"):
        """Runs a command; returns the board's monotonic clock after it, seconds."""
        return float(self.run(f"{{ {command}; }} >/dev/null && cut -d' ' -f1 /proc/uptime").splitlines()[-1])

    def starved_s(self):
        """Seconds that the emulator's threads have waited for a processor of this machine, all together."""
        total_ns = 0
        for file in pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/schedstat"):
            try:
                total_ns += int(file.read_text().split()[1])
            except (OSError, IndexError, ValueError):
                # The thread has ended, or this kernel does not count.
                continue
        return total_ns / 1e9

    def check(self):
        """Fails if the board is off."""
        if self.process.poll() is not None:
            raise Failed("the board went off; see console.log")

    def off(self):
        self.process.kill()
        self.process.wait()
