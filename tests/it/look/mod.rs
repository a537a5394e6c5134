//! Looking into images: `ls`, `cat` and `diff`.

mod cat;
mod diff;
mod ls;
mod stacks;
