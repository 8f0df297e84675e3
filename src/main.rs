//! The program `watchkeeper`: hands over to the command line at once.

fn main() {}
