//! The core of RTC Battery.
#![forbid(unsafe_code)]
