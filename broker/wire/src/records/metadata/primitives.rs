//! Kafka's flexible encoding, as far as metadata records need it.
//!
//! The reader never allocates more than the bytes in front of it can pay for, and never panics on them.

use super::RecordError;
use broker_types::{NodeId, Uuid};
use bytes::{BufMut, BytesMut};
use std::sync::Arc;

/// Writes fields.
pub(super) trait Write {
    /// An unsigned varint, seven bits a byte, lowest first.
    fn varint(&mut self, value: u32);
    /// The length of a compact array or string: one more than it is.
    fn length(&mut self, len: usize);
    fn string(&mut self, text: &str);
    fn nullable_string(&mut self, text: Option<&str>);
    fn uuid(&mut self, id: Uuid);
    fn uuids(&mut self, ids: &[Uuid]);
    fn node(&mut self, id: NodeId);
    fn nodes(&mut self, ids: &[NodeId]);
}

impl Write for BytesMut {
    fn varint(&mut self, mut value: u32) {
        while value > 0x7f {
            self.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.put_u8(value as u8);
    }

    fn length(&mut self, len: usize) {
        let len = u32::try_from(len).ok().and_then(|len| len.checked_add(1));
        self.varint(len.expect("a field of a metadata record has less than 2^32 elements"));
    }

    fn string(&mut self, text: &str) {
        self.length(text.len());
        self.put_slice(text.as_bytes());
    }

    fn nullable_string(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.string(text),
            None => self.varint(0),
        }
    }

    fn uuid(&mut self, id: Uuid) {
        self.put_u128(id.0);
    }

    fn uuids(&mut self, ids: &[Uuid]) {
        self.length(ids.len());
        ids.iter().for_each(|id| self.uuid(*id));
    }

    fn node(&mut self, id: NodeId) {
        self.put_i32(id.0);
    }

    fn nodes(&mut self, ids: &[NodeId]) {
        self.length(ids.len());
        ids.iter().for_each(|id| self.node(*id));
    }
}

/// The tagged fields of one message, gathered in any order and written in the order of their tags.
#[derive(Default)]
pub(super) struct Tagged(Vec<(u32, BytesMut)>);

impl Tagged {
    pub(super) fn add(&mut self, tag: u32, write: impl FnOnce(&mut BytesMut)) {
        let mut bytes = BytesMut::new();
        write(&mut bytes);
        self.0.push((tag, bytes));
    }

    pub(super) fn finish(mut self, out: &mut BytesMut) {
        self.0.sort_by_key(|(tag, _)| *tag);
        out.varint(self.0.len() as u32);
        for (tag, bytes) in self.0 {
            out.varint(tag);
            out.varint(bytes.len() as u32);
            out.put_slice(&bytes);
        }
    }
}

/// Reads fields from the front of a slice.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// Bytes there were at first.
    whole: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes, whole: bytes.len() }
    }

    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], RecordError> {
        let Some((head, tail)) = self.rest.split_at_checked(len) else {
            return Err(RecordError::Truncated { have: self.whole, need: len - self.rest.len() });
        };
        self.rest = tail;
        Ok(head)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let Some((head, tail)) = self.rest.split_first_chunk::<N>() else {
            return Err(RecordError::Truncated { have: self.whole, need: N - self.rest.len() });
        };
        self.rest = tail;
        Ok(*head)
    }

    pub(super) fn varint(&mut self) -> Result<u32, RecordError> {
        let mut value: u32 = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.fixed()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0xf {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RecordError::InvalidField("varint"))
    }

    pub(super) fn i8(&mut self) -> Result<i8, RecordError> {
        Ok(i8::from_be_bytes(self.fixed()?))
    }

    pub(super) fn i16(&mut self) -> Result<i16, RecordError> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, RecordError> {
        Ok(u16::from_be_bytes(self.fixed()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, RecordError> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    pub(super) fn i64(&mut self) -> Result<i64, RecordError> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    pub(super) fn bool(&mut self) -> Result<bool, RecordError> {
        Ok(self.fixed::<1>()? != [0])
    }

    pub(super) fn uuid(&mut self) -> Result<Uuid, RecordError> {
        Ok(Uuid(u128::from_be_bytes(self.fixed()?)))
    }

    /// A number that is never negative.
    pub(super) fn index(&mut self, field: &'static str) -> Result<i32, RecordError> {
        match self.i32()? {
            index if index >= 0 => Ok(index),
            _ => Err(RecordError::InvalidField(field)),
        }
    }

    pub(super) fn node(&mut self, field: &'static str) -> Result<NodeId, RecordError> {
        self.index(field).map(NodeId)
    }

    /// A node, or -1 for none.
    pub(super) fn nullable_node(&mut self, field: &'static str) -> Result<Option<NodeId>, RecordError> {
        match self.i32()? {
            -1 => Ok(None),
            id if id >= 0 => Ok(Some(NodeId(id))),
            _ => Err(RecordError::InvalidField(field)),
        }
    }

    pub(super) fn nullable_string(&mut self) -> Result<Option<Arc<str>>, RecordError> {
        let Some(len) = self.varint()?.checked_sub(1) else { return Ok(None) };
        let bytes = self.take(len as usize)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text.into())),
            Err(_) => Err(RecordError::InvalidField("string")),
        }
    }

    pub(super) fn string(&mut self, field: &'static str) -> Result<Arc<str>, RecordError> {
        self.nullable_string()?.ok_or(RecordError::InvalidField(field))
    }

    /// A nullable array whose elements take at least `least` bytes each: a claimed length beyond that is refused
    /// before anything is allocated.
    pub(super) fn array<T>(
        &mut self,
        least: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Option<Vec<T>>, RecordError> {
        let Some(len) = self.varint()?.checked_sub(1) else { return Ok(None) };
        let len = len as usize;
        let need = len.saturating_mul(least);
        if need > self.rest.len() {
            return Err(RecordError::Truncated { have: self.whole, need: need - self.rest.len() });
        }
        let mut elements = Vec::with_capacity(len);
        for _ in 0..len {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    pub(super) fn nodes(&mut self, field: &'static str) -> Result<Option<Vec<NodeId>>, RecordError> {
        self.array(4, |r| r.node(field))
    }

    pub(super) fn some_nodes(&mut self, field: &'static str) -> Result<Vec<NodeId>, RecordError> {
        // Kafka itself has written null here for "none".
        Ok(self.nodes(field)?.unwrap_or_default())
    }

    pub(super) fn uuids(&mut self) -> Result<Option<Vec<Uuid>>, RecordError> {
        self.array(16, Reader::uuid)
    }

    /// Reads the tagged fields. `known` reads a tag it knows and says true; others are skipped.
    pub(super) fn tags(
        &mut self,
        mut known: impl FnMut(u32, &mut Reader<'a>) -> Result<bool, RecordError>,
    ) -> Result<(), RecordError> {
        let mut former = None;
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            if former.is_some_and(|former| former >= tag) {
                return Err(RecordError::InvalidField("tag"));
            }
            former = Some(tag);
            let len = self.varint()? as usize;
            let mut field = Reader { rest: self.take(len)?, whole: self.whole };
            if known(tag, &mut field)? && field.left() > 0 {
                return Err(RecordError::TrailingBytes { left: field.left() });
            }
        }
        Ok(())
    }

    pub(super) fn no_tags(&mut self) -> Result<(), RecordError> {
        self.tags(|_, _| Ok(false))
    }
}
