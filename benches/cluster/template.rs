//! JSON with blanks: the text of an object is rendered once, and only what differs from object to object
//! is written per object. That is what lets a server hand out a gigabyte of pods at the speed of memcpy.

/// A number that looks random and is the same in every run and on every machine (splitmix64).
pub(crate) fn dice(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number below `sides` where number k comes up about as often as k^(1/power - 1) says: the low ones take
/// most, as the largest namespaces do.
pub(crate) fn skewed(roll: u64, sides: usize, power: u32) -> usize {
    // Products of floats are the same everywhere; the standard library's powf need not be.
    let unit = (roll >> 11) as f64 / (1_u64 << 53) as f64;
    let mut share = unit;
    for _ in 1..power {
        share *= unit;
    }
    ((share * sides as f64) as usize).min(sides.saturating_sub(1))
}

/// What stands in the blanks `$word$` of one object.
pub(crate) trait Blanks {
    /// Writes what belongs into the blank; `salt` differs between the blanks of one template.
    fn fill(&self, word: &str, salt: u64, out: &mut Vec<u8>);
}

/// JSON with blanks.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pieces: Vec<(String, String)>,
    tail: String,
}

impl Template {
    /// Cuts the text at its blanks.
    pub(crate) fn new(text: &str) -> Template {
        let mut pieces = Vec::new();
        let mut parts = text.split('$');
        let mut literal = parts.next().unwrap_or_default();
        while let (Some(word), Some(next)) = (parts.next(), parts.next()) {
            pieces.push((literal.to_owned(), word.to_owned()));
            literal = next;
        }
        Template {
            pieces,
            tail: literal.to_owned(),
        }
    }

    /// Writes one object.
    pub(crate) fn render(&self, blanks: &impl Blanks, out: &mut Vec<u8>) {
        for (salt, (literal, word)) in self.pieces.iter().enumerate() {
            out.extend_from_slice(literal.as_bytes());
            blanks.fill(word, salt as u64, out);
        }
        out.extend_from_slice(self.tail.as_bytes());
    }
}

/// Hexadecimal digits of a number, `width` of them.
pub(crate) fn hex(number: u64, width: usize, out: &mut Vec<u8>) {
    for place in (0..width).rev() {
        out.push(b"0123456789abcdef"[(number >> (4 * place) & 15) as usize]);
    }
}

/// A UID as the server makes them.
pub(crate) fn uid(seed: u64, out: &mut Vec<u8>) {
    let (high, low) = (dice(seed, 1), dice(seed, 2));
    hex(high >> 32, 8, out);
    out.push(b'-');
    hex(high >> 16, 4, out);
    out.extend_from_slice(b"-4");
    hex(high, 3, out);
    out.extend_from_slice(b"-a");
    hex(low >> 48, 3, out);
    out.push(b'-');
    hex(low, 12, out);
}

/// A moment of the year 2025, as the server writes times.
pub(crate) fn moment(roll: u64, out: &mut Vec<u8>) {
    let two = |number: u64| [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
    out.extend_from_slice(b"2025-");
    out.extend_from_slice(&two(1 + roll % 12));
    out.push(b'-');
    out.extend_from_slice(&two(1 + (roll >> 8) % 28));
    out.push(b'T');
    out.extend_from_slice(&two((roll >> 16) % 24));
    out.push(b':');
    out.extend_from_slice(&two((roll >> 24) % 60));
    out.push(b':');
    out.extend_from_slice(&two((roll >> 32) % 60));
    out.push(b'Z');
}
