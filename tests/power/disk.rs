//! A small disk of its own for a broker: an ext4 image on a loop device, whose power can be cut, or a tmpfs. Either can
//! be filled up with ballast.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`: from now on nothing reaches the disk, neither from the page
/// cache nor from the file system's own log, as when the power fails. The call needs `unsafe` in Rust, so Python makes
/// it.
const CUT: &str = "import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

/// A mounted file system. Unmounted when dropped; must be dropped before the folder that it is mounted in.
#[derive(Debug)]
pub(crate) struct Disk {
    at: PathBuf,
    /// None for a tmpfs.
    image: Option<PathBuf>,
    options: String,
}

impl Disk {
    /// An ext4 file system in a new image of this size, mounted at the folder `at`; or why that cannot be had.
    pub(crate) fn ext4(at: &Path, image: PathBuf, mebibytes: u64, options: &str) -> Result<Self, String> {
        let made = File::create(&image).and_then(|file| file.set_len(mebibytes << 20));
        made.map_err(|error| error.to_string())?;
        // No blocks kept back for root: the disk is full for this process as for any other.
        run("mkfs.ext4", &["-q", "-F", "-m", "0", &text(&image)])?;
        run("python3", &["-c", "import fcntl"])?;
        let disk = Self { at: at.into(), image: Some(image), options: options.into() };
        disk.mount()?;
        Ok(disk)
    }

    /// A tmpfs of this size.
    pub(crate) fn tmpfs(at: &Path, mebibytes: u64) -> Result<Self, String> {
        let disk = Self { at: at.into(), image: None, options: format!("size={mebibytes}m") };
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Result<(), String> {
        fs::create_dir_all(&self.at).map_err(|error| error.to_string())?;
        match &self.image {
            Some(image) => run("mount", &["-o", &format!("loop,{}", self.options), &text(image), &text(&self.at)]),
            None => run("mount", &["-t", "tmpfs", "-o", &self.options, "nightjar-test", &text(&self.at)]),
        }
    }

    /// Cuts the power.
    pub(crate) fn cut(&self) {
        run("python3", &["-c", CUT, &text(&self.at)]).expect("shut the file system down");
    }

    /// What the machine does when the power is back. Nothing may have a file open in here.
    pub(crate) fn power_on(&self) {
        run("umount", &[&text(&self.at)]).expect("unmount after the cut");
        self.mount().expect("mount after the cut");
    }

    /// Takes all space that is left, and again what was freed since.
    pub(crate) fn fill(&self) {
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).expect("ballast file");
        for size in [1 << 20, 64 << 10, 4 << 10, 512] {
            let block = vec![0xbb; size];
            while ballast.write_all(&block).is_ok() && ballast.sync_data().is_ok() {}
        }
    }

    /// Removes the ballast.
    pub(crate) fn release(&self) {
        fs::remove_file(self.ballast()).expect("remove the ballast");
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: when a test has failed, the broker may still have files open in here.
        if let Err(error) = run("umount", &["-l", &text(&self.at)]) {
            println!("{} stays mounted: {error}", self.at.display());
        }
        if let (true, Some(image)) = (std::thread::panicking(), &self.image) {
            let kept = std::env::temp_dir().join(format!("nightjar-power-{}.img", std::process::id()));
            let copied = run("cp", &["--sparse=always", &text(image), &text(&kept)]);
            println!("the image of the failed test: {} {copied:?}", kept.display());
        }
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("a temporary path is UTF-8").to_owned()
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
