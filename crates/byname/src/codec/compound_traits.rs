//! The traits of serde for arrays, tuples and variants, which the writers of both codecs implement alike: [`write_parts`].

/// Implements them by the methods `item`, `field` and `finish` of the type.
macro_rules! write_parts {
    ($type:ident) => {
        write_parts!(items $type: SerializeSeq serialize_element);
        write_parts!(items $type: SerializeTuple serialize_element);
        write_parts!(items $type: SerializeTupleStruct serialize_field);
        write_parts!(items $type: SerializeTupleVariant serialize_field);

        impl serde_core::ser::SerializeStructVariant for $type<'_> {
            type Ok = ();
            type Error = serde_json::Error;

            fn serialize_field<T: serde_core::Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Self::Error> {
                self.field(name, value)
            }

            fn end(self) -> Result<(), Self::Error> {
                self.finish()
            }
        }
    };
    (items $type:ident: $trait:ident $method:ident) => {
        impl serde_core::ser::$trait for $type<'_> {
            type Ok = ();
            type Error = serde_json::Error;

            fn $method<T: serde_core::Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Self::Error> {
                self.item(value)
            }

            fn end(self) -> Result<(), Self::Error> {
                self.finish()
            }
        }
    };
}

pub(in crate::codec) use write_parts;
