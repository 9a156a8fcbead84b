//! What must go, and what must stay.

mod forms;
mod ordinary;
mod properties;
