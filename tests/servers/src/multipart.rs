//! Files as the fields of a form, by `multer`: each is collected as a body of its own.
//!
//! Promises: no field, and no form, is longer than the limit of a file; a form has at most [`FIELDS_MAX`]
//! fields, and at most [`BESIDE_MAX`] bytes before each and after the last; a form is stored whole or not at
//! all, once its body has ended. The parser has some [`BESIDE_MAX`] bytes of a form in memory, however fast
//! it arrives.

use crate::files::{Files, Stored, check_name};
use crate::refusal::Refusal;
use crate::upload::receive;
use axum::Json;
use axum::body::{Body as AxumBody, BodyDataStream};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use bytes::Bytes;
use futures_core::Stream;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use multer::{Field, Multipart};
use serde_json::{Value, json};
use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use tokio::time::timeout;

/// The most fields of a form: each costs memory that no pool is charged for.
pub const FIELDS_MAX: usize = 1000;

/// The most bytes before a field: its boundary and its head, which the parser keeps in memory. And the most
/// that are received for nothing after what it has read.
pub const BESIDE_MAX: usize = 64 << 10;

/// The bytes of a form on their way to the parser, which takes all that is there into its memory.
struct Doled {
    form: BodyDataStream,
    taken: Taken,
}

/// Bytes that the parser has taken since it last gave something away.
#[derive(Clone, Debug, Default)]
struct Taken(Arc<AtomicUsize>);

impl Taken {
    fn is_much(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= BESIDE_MAX
    }

    fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl Doled {
    fn new(form: AxumBody, taken: Taken) -> Self {
        Doled { form: form.into_data_stream(), taken }
    }
}

impl Stream for Doled {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.taken.is_much() {
            context.waker().wake_by_ref(); // once the parser has looked at what it has
            return Poll::Pending;
        }
        let next = ready!(Pin::new(&mut self.form).poll_next(context));
        if let Some(Ok(data)) = &next {
            self.taken.0.fetch_add(data.len(), Ordering::Relaxed);
        }
        Poll::Ready(next)
    }
}

/// A field as a body.
struct FieldBody<'a>(Field<'a>, Taken);

impl Body for FieldBody<'_> {
    type Data = Bytes;
    type Error = multer::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, multer::Error>>> {
        let mut data = Pin::new(&mut self.0).poll_next(context);
        if data.is_pending() && self.1.is_much() {
            // All that was taken was this field's head: of its content the parser has less than a boundary.
            self.1.reset();
            data = Pin::new(&mut self.0).poll_next(context);
        }
        let data = ready!(data);
        self.1.reset();
        Poll::Ready(data.map(|data| data.map(Frame::data)))
    }
}

/// The next field, if its head is of a usual length and comes in time.
async fn next_field<'a>(
    files: &Files,
    form: &mut Multipart<'a>,
    taken: &Taken,
) -> Result<Option<Field<'a>>, Refusal> {
    taken.reset();
    let next = poll_fn(|context| {
        // Twice, since the parser may have taken bytes last that it has not looked at.
        for _ in 0..2 {
            if let Poll::Ready(field) = form.poll_next_field(context) {
                return Poll::Ready(field.map_err(|error| bad_form(&error)));
            }
        }
        if !taken.is_much() {
            return Poll::Pending;
        }
        let text = format!("a form has at most {BESIDE_MAX} bytes before each field");
        Poll::Ready(Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text)))
    });
    let idle = files.config.idle;
    let late = |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, format!("no field came for {idle:?}"));
    timeout(idle, next).await.map_err(late)?
}

/// Receives what follows the last boundary, where the parser stops: hyper closes a connection on which the
/// end of a body was not received.
async fn receive_rest(files: &Files, mut form: BodyDataStream) -> Result<(), Refusal> {
    let ended = async {
        let mut beside = 0;
        while let Some(frame) = form.frame().await {
            beside += frame.map_err(|error| bad_form(&error))?.data_ref().map_or(0, Bytes::len);
            if beside > BESIDE_MAX {
                let text = format!("a form has at most {BESIDE_MAX} bytes after its fields");
                return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text));
            }
        }
        Ok(())
    };
    let idle = files.config.idle;
    let late = |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, format!("the form did not end for {idle:?}"));
    timeout(idle, ended).await.map_err(late)?
}

fn bad_form(error: &dyn Error) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, format!("the form cannot be read: {error}"))
}

/// The name of a field's file, or of the field if it is no file. The parser passes over a name that is not in
/// UTF-8, and over `filename*`, which a form has not (RFC 7578, section 4.2).
fn name_of<'a>(field: &'a Field<'_>) -> Result<&'a str, Refusal> {
    let disposition = field.headers().get(header::CONTENT_DISPOSITION).map_or(&[][..], HeaderValue::as_bytes);
    let is_filename = |part: &[u8]| {
        let start = part.trim_ascii_start().get(..8);
        start.is_some_and(|start| start.eq_ignore_ascii_case(b"filename"))
    };
    if field.file_name().is_none() && disposition.split(|byte| *byte == b';').any(is_filename) {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "the name of a file is in UTF-8, as `filename`"));
    }
    Ok(field.file_name().or(field.name()).unwrap_or_default())
}

/// Whether a file of a form has a good name, and no other of the form has it.
fn check_new(name: &str, received: &[(String, Stored)]) -> Result<(), Refusal> {
    check_name(name)?;
    if received.iter().any(|(other, _)| other == name) {
        let text = format!("the form has two files {name:?}; rename one");
        return Err(Refusal::new(StatusCode::BAD_REQUEST, text));
    }
    Ok(())
}

/// `POST /files`: each field is a file, whose name is that of the field's file, or of the field.
/// Fields without a name are refused, and two of one name; an input of a browser in which no file was
/// chosen is passed over.
///
/// # Errors
/// 400 for a form that cannot be read, a bad name or a broken body; 415 for what is no form; 408, 413, 503,
/// 507.
pub async fn post(
    State(files): State<Arc<Files>>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = content_type.and_then(|value| multer::parse_boundary(value).ok());
    let boundary = boundary.ok_or_else(|| {
        Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send a form: multipart/form-data, with its boundary",
        )
    })?;
    let taken = Taken::default();
    let mut doled = Doled::new(request.into_body(), taken.clone());
    let mut form = Multipart::new(&mut doled, boundary);
    let (mut received, mut left) = (Vec::<(String, Stored)>::new(), files.config.limit);
    let mut fields = 0;
    while let Some(field) = next_field(&files, &mut form, &taken).await? {
        fields += 1;
        if fields > FIELDS_MAX {
            let text = format!("a form has at most {FIELDS_MAX} fields; send several forms");
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text));
        }
        let is_unchosen = field.file_name() == Some("");
        let name = name_of(&field)?.to_owned();
        if !is_unchosen {
            check_new(&name, &received)?;
        }
        let stored = receive(&files, FieldBody(field, taken.clone()), left).await?;
        if is_unchosen && stored.frozen().is_empty() {
            continue;
        }
        check_name(&name)?; // of bytes for which no name came
        left -= stored.frozen().len();
        received.push((name, stored));
    }
    drop(form);
    receive_rest(&files, doled.form).await?;
    let descriptions: Vec<_> = received.iter().map(|(name, stored)| stored.describe(name)).collect();
    files.put_all(received)?;
    Ok((StatusCode::CREATED, Json(json!(descriptions))))
}
