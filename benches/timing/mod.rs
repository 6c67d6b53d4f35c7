//! On which device a bench computes, and how long calls take there.

#![allow(dead_code)] // Every bench takes what it needs.

use std::hint::black_box;

use clap::Parser;
use lvd::device::{self, DeviceChoice};
use rustix::time::ClockId;
use tch::{Cuda, Device, Kind, Tensor};

/// Repetitions of which the median counts, where a bench does not say otherwise.
pub const REPEATS: usize = 7;

/// What a bench is asked for.
#[derive(Parser)]
pub struct Options {
    /// cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// What cargo adds of its own accord.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// Make the device that was asked for ready; leaves with a message where it cannot be had.
    pub fn open(&self) -> Device {
        device::keep_freed_memory();
        device::open(self.device, None).unwrap_or_else(|refusal| {
            eprintln!("{refusal}");
            std::process::exit(2)
        })
    }
}

/// The device that was asked for, after a line that says what it is.
pub fn device() -> Device {
    let device = Options::parse().open();
    let device::Description { device: label, name, threads } = device::describe(device);
    println!("{label} ({name}), {threads} threads of the CPU");
    device
}

/// A clock in seconds. On a GPU it waits until all that was asked for is done. With one thread on the CPU it counts the
/// thread's own time, so that a busy machine disturbs less; else it is the wall's.
pub fn clock(device: Device) -> f64 {
    wait(device);
    let alone = device == Device::Cpu && tch::get_num_threads() == 1;
    read(if alone { ClockId::ThreadCPUTime } else { ClockId::Monotonic })
}

fn wait(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

/// Processor time of all threads in seconds.
pub fn processor() -> f64 {
    read(ClockId::ProcessCPUTime)
}

fn read(clock: ClockId) -> f64 {
    let now = rustix::time::clock_gettime(clock);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Seconds of a call.
pub fn seconds(device: Device, call: impl FnOnce()) -> f64 {
    let start = clock(device);
    call();
    clock(device) - start
}

/// The median of every column.
pub fn medians<const N: usize>(rounds: &[[f64; N]]) -> [f64; N] {
    std::array::from_fn(|column| {
        let mut seconds: Vec<f64> = rounds.iter().map(|round| round[column]).collect();
        seconds.sort_by(f64::total_cmp);
        seconds[rounds.len() / 2]
    })
}

/// The median time of so many calls in seconds; a call before them does not count.
pub fn median(device: Device, repeats: usize, mut call: impl FnMut()) -> f64 {
    call();
    let rounds: Vec<[f64; 1]> = (0..repeats).map(|_| [seconds(device, &mut call)]).collect();
    medians(&rounds)[0]
}

/// Seconds of the matrix product `[rows, inner] x [inner, columns]` in float32.
pub fn product(device: Device, rows: i64, inner: i64, columns: i64) -> f64 {
    let a = Tensor::rand([rows, inner], (Kind::Float, device));
    let b = Tensor::rand([inner, columns], (Kind::Float, device));
    median(device, REPEATS, || drop(black_box(a.mm(&b))))
}

/// Rate of a large square product, GFLOP/s.
pub fn large(device: Device) -> f64 {
    let side: i64 = if device.is_cuda() { 8192 } else { 1024 };
    2.0 * (side as f64).powi(3) / 1e9 / product(device, side, side, side)
}

/// Seconds for which a call keeps a GPU at work, without the gaps in which it waits for the CPU to ask for the next
/// operation: the call is queued behind a product that takes `ahead` times as long as the call itself. None on the CPU, and
/// where the call waits for results in between, so that it cannot be queued.
pub fn kernels(device: Device, ahead: f64, mut call: impl FnMut()) -> Option<f64> {
    device.is_cuda().then_some(())?;
    let whole = median(device, REPEATS, &mut call);
    let a = Tensor::rand([4096, 4096], (Kind::Float, device));
    let times = (ahead * whole / median(device, REPEATS, || drop(black_box(a.mm(&a))))).ceil() as usize;
    let fill = || (0..times).for_each(|_| drop(black_box(a.mm(&a))));
    let rounds: Vec<[f64; 3]> = (0..REPEATS)
        .map(|_| {
            let filled = seconds(device, fill);
            let start = clock(device);
            fill();
            call();
            let asked = read(ClockId::Monotonic) - start;
            [filled, asked, clock(device) - start]
        })
        .collect();
    let [filled, asked, all] = medians(&rounds);
    (asked < filled).then_some(all - filled)
}
