//! How much of a part fits into a buffer.

/// Returns how many of `left` bytes, of a file or stream, fit into `room` bytes of memory.
#[must_use]
pub fn fitting(left: u64, room: usize) -> usize {
    usize::try_from(left).map_or(room, |left| left.min(room))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_is_left_and_no_more_than_there_is_room_for() {
        for (left, room, expected) in [
            (0, 0, 0),
            (0, 5, 0),
            (5, 0, 0),
            (4, 5, 4),
            (5, 5, 5),
            (6, 5, 5),
            (u64::MAX, 5, 5),
            (1 << 40, 5, 5),
        ] {
            assert_eq!(fitting(left, room), expected, "{left} bytes, room for {room}");
        }
    }
}
