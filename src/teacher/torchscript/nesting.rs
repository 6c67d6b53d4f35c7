//! How deep the code and the pickles of an archive are nested. libtorch reads both by recursion, and a stack that overflows
//! ends the process; so what is deeper than anything that a program writes is refused before libtorch sees it.
//!
//! Only depth is looked at, not sense: libtorch itself says what is wrong with the rest. A chain of calls from function to
//! function is not followed.

use std::collections::HashMap;

/// Depth of code at most; see [`of_code`]. libtorch manages some thousands.
pub const CODE: usize = 2_000;
/// Depth of a pickle at most; libtorch manages some ten thousands.
pub const PICKLE: usize = 5_000;

/// A bound on the depth of an expression or statement in code: over all open brackets, the longest way since the last comma
/// or line (for `- - x`, `x.a.a` and `x + x + x` nest without brackets, and blocks by their indentation).
#[must_use]
pub fn of_code(code: &str) -> usize {
    let mut open = vec![0]; // characters since the last comma or line, by bracket
    let (mut total, mut deepest, mut continued) = (0, 0, false);
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let length = token(rest);
        match first {
            '(' | '[' | '{' => open.push(0),
            ')' | ']' | '}' if open.len() > 1 => total -= open.pop().unwrap_or(0),
            ',' => total -= open.last_mut().map_or(0, std::mem::take),
            // Inside of brackets, and after a backslash, a line goes on.
            '\n' if open.len() == 1 && !continued => total -= open.last_mut().map_or(0, std::mem::take),
            _ => {}
        }
        // Some comments are code, so every character of one counts.
        let weight = if first == '#' { length } else { 1 };
        continued = first == '\\';
        if let Some(run) = open.last_mut() {
            (*run, total) = (*run + weight, total + weight);
        }
        deepest = deepest.max(total);
        rest = &rest[length..];
    }
    deepest.max(code.matches("elif").count()).max(empty_lines(code))
}

/// The longest run of lines without code: libtorch's reader recurses over them too.
fn empty_lines(code: &str) -> usize {
    let mut longest = 0;
    code.lines().fold(0, |run, line| {
        let line = line.trim();
        let run = if line.is_empty() || line.starts_with('#') || line == "\\" { run + 1 } else { 0 };
        longest = longest.max(run);
        run
    });
    longest
}

/// Bytes of the text, comment or character that code goes on with.
fn token(code: &str) -> usize {
    if code.starts_with('#') {
        return code.find('\n').unwrap_or(code.len());
    }
    let quotes = ["\"\"\"", "'''", "\"", "'"];
    let Some(quote) = quotes.into_iter().find(|quote| code.starts_with(quote)) else {
        return code.chars().next().map_or(0, char::len_utf8);
    };
    let mut at = quote.len();
    while at < code.len() && !code[at..].starts_with(quote) {
        let escape = code[at..].starts_with('\\');
        at += code[at..].chars().take(1 + usize::from(escape)).map(char::len_utf8).sum::<usize>();
    }
    (at + quote.len()).min(code.len())
}

/// A bound on the depth of the value that a pickle makes.
///
/// # Errors
/// What is wrong with the pickle, where it is none that TorchScript writes.
pub fn of_pickle(pickle: &[u8]) -> Result<usize, String> {
    let mut machine = Machine { rest: pickle, ..Machine::default() };
    loop {
        let opcode = machine.take(1)?[0];
        if opcode == b'.' {
            return Ok(machine.deepest);
        }
        machine.step(opcode)?;
    }
}

/// A value on the stack: how deep it is, and whether it can still grow.
#[derive(Clone, Copy)]
struct Held {
    depth: usize,
    grows: bool,
}

const LEAF: Held = Held { depth: 0, grows: false };

/// The machine that a pickle is a program for, with depths in place of values.
#[derive(Default)]
struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Held>,
    marks: Vec<usize>,
    memo: HashMap<usize, Held>,
    deepest: usize,
}

impl<'a> Machine<'a> {
    fn step(&mut self, opcode: u8) -> Result<(), String> {
        match opcode {
            0x80 => self.take(1).map(|_| ()),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'N' | 0x88 | 0x89 => self.leaf(0),
            b'K' => self.leaf(1),
            b'M' => self.leaf(2),
            b'J' => self.leaf(4),
            b'G' => self.leaf(8),
            0x8a => self.counted(1),
            b'X' | 0x8b => self.counted(4),
            b'c' => self.global(),
            b'q' => self.put(1),
            b'r' => self.put(4),
            b'h' => self.get(1),
            b'j' => self.get(4),
            b']' | b'}' => self.gather(0, true),
            b')' => self.gather(0, false),
            0x85..=0x87 => self.gather(usize::from(opcode - 0x84), false),
            0x81 => self.gather(2, true),
            b'R' => self.gather(2, false),
            b't' => self.gather_marked(false),
            b'l' | b'd' => self.gather_marked(true),
            b'a' | b'b' => self.put_in(1),
            b's' => self.put_in(2),
            b'e' | b'u' => {
                let count = self.marked()?;
                self.put_in(count)
            }
            // What an identifier stands for lies outside of the pickle.
            b'Q' => self.pop(1).and_then(|_| self.leaf(0)),
            b'0' => self.pop(1).map(|_| ()),
            _ => Err(format!("a pickle with the operation {opcode:#04x}, which TorchScript does not write")),
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or("a pickle that is cut off")?;
        self.rest = rest;
        Ok(taken)
    }

    /// A number of this many bytes.
    fn number(&mut self, bytes: usize) -> Result<usize, String> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte)))
    }

    fn leaf(&mut self, bytes: usize) -> Result<(), String> {
        self.take(bytes)?;
        self.stack.push(LEAF);
        Ok(())
    }

    /// A text or number of a length that stands before it. Texts may be names of types, which nest too.
    fn counted(&mut self, bytes: usize) -> Result<(), String> {
        let length = self.number(bytes)?;
        self.name(length)
    }

    /// Module and name, a line each.
    fn global(&mut self) -> Result<(), String> {
        for _ in 0..2 {
            let end = self.rest.iter().position(|&byte| byte == b'\n').ok_or("a pickle that is cut off")?;
            self.name(end + 1)?;
        }
        self.pop(1).map(|_| ())
    }

    fn name(&mut self, length: usize) -> Result<(), String> {
        let mut open = 0usize;
        for byte in self.take(length)? {
            match byte {
                b'[' | b'(' => open += 1,
                b']' | b')' => open = open.saturating_sub(1),
                _ => {}
            }
            self.deepest = self.deepest.max(open);
        }
        self.stack.push(LEAF);
        Ok(())
    }

    fn put(&mut self, bytes: usize) -> Result<(), String> {
        let key = self.number(bytes)?;
        let held = *self.stack.last().ok_or("a pickle that is damaged")?;
        if key > self.memo.len() {
            return Err(format!("a pickle that remembers value {key} after {}", self.memo.len()));
        }
        self.memo.insert(key, held);
        Ok(())
    }

    /// What was remembered: where it could have grown since, it counts as the deepest of all.
    fn get(&mut self, bytes: usize) -> Result<(), String> {
        let key = self.number(bytes)?;
        let held = *self.memo.get(&key).ok_or("a pickle that is damaged")?;
        self.stack.push(Held { depth: if held.grows { self.deepest } else { held.depth }, ..held });
        Ok(())
    }

    /// The last values, which leave the stack: the deepest, and whether one can grow.
    fn pop(&mut self, count: usize) -> Result<Held, String> {
        let left = self.stack.len().checked_sub(count).ok_or("a pickle that is damaged")?;
        let both = |a: Held, b: Held| Held { depth: a.depth.max(b.depth), grows: a.grows || b.grows };
        Ok(self.stack.drain(left..).fold(LEAF, both))
    }

    /// How many values lie over the last mark, which is taken away.
    fn marked(&mut self) -> Result<usize, String> {
        let mark = self.marks.pop().ok_or("a pickle that is damaged")?;
        self.stack.len().checked_sub(mark).ok_or_else(|| "a pickle that is damaged".to_owned())
    }

    fn push(&mut self, held: Held) {
        self.stack.push(held);
        self.deepest = self.deepest.max(held.depth);
    }

    /// The last values become one that holds them.
    fn gather(&mut self, count: usize, grows: bool) -> Result<(), String> {
        let inner = self.pop(count)?;
        self.push(Held { depth: inner.depth + 1, grows: grows || inner.grows });
        Ok(())
    }

    fn gather_marked(&mut self, grows: bool) -> Result<(), String> {
        let count = self.marked()?;
        self.gather(count, grows)
    }

    /// The last values go into the one before them.
    fn put_in(&mut self, count: usize) -> Result<(), String> {
        let inner = self.pop(count)?;
        let held = self.stack.pop().ok_or("a pickle that is damaged")?;
        self.push(Held { depth: held.depth.max(inner.depth + 1), grows: held.grows || inner.grows });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_chains_and_blocks_nest_and_lists_do_not() {
        assert_eq!(of_code("f(x)"), 3); // f, then the bracket and x
        let long = |part: &str| of_code(&format!("  return {}", part.repeat(1000)));
        for nested in ["f(", "- ", "x.", "[", "x + ", "not "] {
            assert!(long(nested) >= 1000, "{nested:?}");
        }
        for flat in ["12, ", "f(x, y),", "  y = f(x)\n", "'(((', ", "\"[\\\"[[[\",", "\"\"\"((\n((\"\"\","] {
            assert!(long(flat) < 40, "{flat:?}: {}", long(flat));
        }
        assert!(of_code(&format!("\"\"\"\n\"\"\" + {}", "(".repeat(500))) >= 500);
        assert!(of_code(&format!("# \"\n{}", "(".repeat(500))) >= 500);
        let blocks: Vec<String> = (0..500).map(|i| format!("{}if x:\n", " ".repeat(i))).collect();
        assert!(of_code(&blocks.concat()) >= 500);
        assert!(of_code(&"  elif x:\n    pass\n".repeat(500)) >= 500);
        assert!(of_code(&format!("  return (x{}", "-\n".repeat(500))) >= 500);
        assert!(of_code(&format!("  return x {}", "- \\\n".repeat(500))) >= 500);
        assert!(of_code(&format!("  def f(x): # type: {}", "(".repeat(500))) >= 500);
        for line in ["\n", "# x\n", "\\\n"] {
            assert!(of_code(&line.repeat(500)) >= 500, "{line:?}");
        }
    }

    #[test]
    fn the_depth_of_a_pickle_is_that_of_its_value() {
        let depth = |program: &[u8]| of_pickle(&[b"\x80\x02", program, b"."].concat());
        assert_eq!(depth(b"]"), Ok(1));
        assert_eq!(depth(b"]]a"), Ok(2));
        assert_eq!(depth(b"](K\x01]e"), Ok(2));
        assert_eq!(depth(b"((tK\x02t"), Ok(2));
        assert_eq!(depth(b"}X\x01\0\0\0a]s"), Ok(2));
        assert_eq!(depth(b"}(K\x01]K\x02NN\x85u"), Ok(2));
        assert_eq!(depth(b"c__torch__\nNet\n)\x81}X\x01\0\0\0aNsb"), Ok(2)); // an object of a dict
        assert_eq!(depth(&[&b"]".repeat(700)[..], &b"a".repeat(699)].concat()), Ok(700));
        assert_eq!(depth(&[&b"N"[..], &b"\x85".repeat(70)].concat()), Ok(70));
        // A list that is remembered and grows afterwards: l0 holds l1, which holds l2 and so on.
        let made: Vec<u8> = (0..50).flat_map(|i| [b']', b'q', i]).collect();
        let chained: Vec<u8> = (0..49).flat_map(|i| [b'h', i, b'h', i + 1, b'a', b'0']).collect();
        assert!(depth(&[made, chained].concat()).unwrap() >= 50);
        assert!(depth(&[&b"X\x20\x03\0\0"[..], &b"[".repeat(800)].concat()).unwrap() >= 800);
        assert_eq!(
            depth(b"cos\nsystem\n\xff").unwrap_err(),
            "a pickle with the operation 0xff, which TorchScript does not write"
        );
        assert_eq!(depth(b"X\xff\xff\xff\xffab").unwrap_err(), "a pickle that is cut off");
        assert_eq!(depth(b"]aaaa").unwrap_err(), "a pickle that is damaged");
        assert_eq!(depth(b"]r\xff\xff\xff\xff").unwrap_err(), "a pickle that remembers value 4294967295 after 0");
    }
}
