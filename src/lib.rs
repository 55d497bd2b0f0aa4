pub mod aws;
pub mod clock;
pub mod config;
pub mod evaluate;
pub mod model;
pub mod scan;
pub mod store;
