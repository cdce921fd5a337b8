//! Work for the benchmark of metering: see work.c.

#[no_mangle]
pub extern "C" fn work(rounds: u32) -> u32 {
    let mut numbers = vec![0u32; 4096];
    let (mut seed, mut sum) = (1u32, 0u32);
    for _ in 0..rounds {
        for n in numbers.iter_mut() {
            seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
            *n = seed;
        }
        numbers.sort_by(|a, b| a.cmp(b));
        let mut hash = 2166136261u32;
        for n in &numbers {
            for b in n.to_le_bytes() {
                hash = (hash ^ b as u32).wrapping_mul(16777619);
            }
        }
        let product = numbers.iter().fold(1.0, |p, n| p * 0.5 + *n as f64 / 4294967296.0);
        sum = sum.wrapping_add(hash).wrapping_add((product * 1000.0) as u32);
    }
    sum
}
