//! The library's sources and documents against their own rules. These tests use no byname.

mod architecture;
mod clock_and_chance;
mod reliability;
mod telemetry_names;
mod wall_clock;
