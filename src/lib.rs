pub mod clock;
pub mod evaluate;
pub mod model;
