//! What can break, how it begins and how it ends.

use super::world::World;

/// Days and hours by which the wall clock jumps.
const JUMPS: [&str; 6] = ["+0", "+3h", "-5h", "+2d", "-30d", "+400d"];

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fault {
    /// The camera's program writes what the word says: see `world::CAMERA`.
    Camera(&'static str),
    /// Connections break, and new ones are refused.
    NetworkDown,
    /// Connections break; the next one works.
    NetworkFlaps,
    /// Connections stay open, and nothing passes.
    NetworkHangs,
    DiskFull,
    /// The queue's file is removed while it is in use.
    QueueRemoved,
    /// The configuration is read again, unchanged.
    Reload,
    /// A configuration that must be refused.
    BadReload,
    /// A third camera comes, and goes again.
    CameraAdded,
    Clock(&'static str),
}

/// The part of the world that a fault breaks: two faults of one part do not mix.
#[derive(PartialEq)]
enum Part {
    Camera,
    Network,
    Disk,
    Config,
    Clock,
}

/// One to three faults of different parts.
pub(super) fn draw(random: &mut fastrand::Rng, world: &World) -> Vec<Fault> {
    let mut faults: Vec<Fault> = Vec::new();
    for _ in 0..random.usize(1..=3) {
        let fault = Fault::draw(random);
        let possible = match fault.part() {
            Part::Disk => world.disk.is_some(),
            Part::Clock => world.has_clock,
            _ => true,
        };
        if possible && faults.iter().all(|f| f.part() != fault.part()) {
            faults.push(fault);
        }
    }
    faults
}

impl Fault {
    fn draw(random: &mut fastrand::Rng) -> Self {
        const CAMERA: [&str; 4] = ["cut", "noise", "silent", "ends"];
        let all = [
            Self::Camera(CAMERA[random.usize(..CAMERA.len())]),
            Self::NetworkDown,
            Self::NetworkFlaps,
            Self::NetworkHangs,
            Self::DiskFull,
            Self::QueueRemoved,
            Self::Reload,
            Self::BadReload,
            Self::CameraAdded,
            Self::Clock(JUMPS[random.usize(..JUMPS.len())]),
        ];
        all[random.usize(..all.len())]
    }

    fn part(self) -> Part {
        match self {
            Self::Camera(_) => Part::Camera,
            Self::NetworkDown | Self::NetworkFlaps | Self::NetworkHangs => Part::Network,
            Self::DiskFull | Self::QueueRemoved => Part::Disk,
            Self::Reload | Self::BadReload | Self::CameraAdded => Part::Config,
            Self::Clock(_) => Part::Clock,
        }
    }

    pub(super) fn begin(self, world: &mut World) {
        match self {
            Self::Camera(mode) => world.set("mode", mode),
            Self::NetworkDown => world.proxy.close(),
            Self::NetworkFlaps => world.proxy.drop_connections(),
            Self::NetworkHangs => world.proxy.hold(true),
            Self::DiskFull => fill(world),
            Self::QueueRemoved => {
                let _ = std::fs::remove_file(world.path("state/queue.redb"));
            }
            Self::Reload => world.reload(""),
            Self::BadReload => world.reload("[mqtt]\nbroket = 1\n"),
            Self::CameraAdded => {
                world.reload("[[camera]]\nname = \"dock\"\n[camera.synthetic]\nrate = 2.0\n");
            }
            Self::Clock(offset) => world.set("clock", offset),
        }
    }

    /// Mends it. The clock stays where it is.
    pub(super) fn end(self, world: &mut World) {
        match self {
            Self::Camera(_) => world.set("mode", "good"),
            Self::NetworkDown => world.proxy.connect_to(&world.broker),
            Self::NetworkHangs => world.proxy.hold(false),
            Self::DiskFull => std::fs::remove_file(world.path("state/filler")).expect("filler"),
            Self::BadReload | Self::CameraAdded => world.reload(""),
            Self::NetworkFlaps | Self::QueueRemoved | Self::Reload | Self::Clock(_) => {}
        }
    }
}

/// Writes until nothing more fits.
fn fill(world: &World) {
    let zeros = vec![0; 64 << 20];
    std::fs::write(world.path("state/filler"), zeros).expect_err("the disk is full");
}
