//! Whether BTF, the description of types that clang leaves in objects (the kernel's `Documentation/bpf/btf.rst`), is
//! whole: aya-obj follows its offsets unseen.

const HEADER_BYTES: usize = 24;
/// More elements than a map of bearable size has.
const MAX_ELEMENTS: u32 = 1 << 24;

const KIND_ARRAY: u32 = 3;

/// All offsets lead to something, and all names end.
pub(super) fn is_whole(data: &[u8]) -> bool {
    whole(data).is_some()
}

fn whole(data: &[u8]) -> Option<()> {
    let header: [u32; 6] = words(data)?;
    let [_, header_bytes, type_off, type_len, str_off, str_len] = header.map(|word| word as usize);
    let rest = data.get(header_bytes..).filter(|_| header_bytes == HEADER_BYTES)?;
    let strings = rest.get(str_off..)?.get(..str_len)?;
    let mut types = rest.get(type_off..)?.get(..type_len)?;
    (strings.last() == Some(&0)).then_some(())?;
    while !types.is_empty() {
        let [name, info, _] = words(types)?;
        let count = info & 0xffff;
        // Bytes after the first three words, for each of `count` members, which begin with a name.
        let (fixed, member) = match info >> 24 & 0x1f {
            2 | 7..=12 | 16 | 18 => (0, 0),
            1 | 14 | 17 => (4, 0),
            KIND_ARRAY => (12, 0),
            4 | 5 | 19 => (0, 12),
            6 | 13 => (0, 8),
            15 => (0, 12),
            _ => return None,
        };
        let is_section = info >> 24 & 0x1f == 15;
        let (body, after) = types.get(12..)?.split_at_checked(fixed + member * count as usize)?;
        let array: Option<[u32; 3]> = words(body);
        let many = info >> 24 & 0x1f == KIND_ARRAY && array.is_none_or(|[_, _, elements]| elements > MAX_ELEMENTS);
        let named = |name: u32| (name as usize) < strings.len();
        let members = body.chunks_exact(member.max(1)).filter(|_| member > 0 && !is_section);
        let members_named = members.map(words).all(|first: Option<[u32; 1]>| first.is_some_and(|[name]| named(name)));
        (named(name) && !many && members_named).then_some(())?;
        types = after;
    }
    Some(())
}

/// The first `N` words.
fn words<const N: usize>(data: &[u8]) -> Option<[u32; N]> {
    let (words, _) = data.as_chunks::<4>();
    let words: &[[u8; 4]; N] = words.first_chunk()?;
    Some(words.map(u32::from_le_bytes))
}
