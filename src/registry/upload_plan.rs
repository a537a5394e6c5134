//! In which form a blob is sent, and which form comes next after a failure. Without I/O.

const MIB: u64 = 1024 * 1024;
/// Chunk sizes that are tried, largest first; GHCR takes at most 4 MiB, AWS at least 5 MiB but says so.
const CHUNKS: [u64; 5] = [64 * MIB, 16 * MIB, 8 * MIB, 4 * MIB, MIB];
/// Blobs of at least this size are sent in chunks when the connection broke twice in the middle.
const WORTH_CHUNKING: u64 = 16 * MIB;

/// Blobs up to this size are sent in the PUT that ends the upload; a body that small is soon sent again.
const SMALL: u64 = 256 * 1024;
/// Largest blob with which it is tried whether a registry takes the bytes with the POST: at most so much is sent without a result.
const TRIED_AT_ONCE: u64 = 64 * 1024;

/// What the uploads to a registry have shown so far.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// The form for what is not small.
    pub(super) form: UploadForm,
    /// Small blobs are sent as large ones are, because one was refused in a single PUT, or its session was lost.
    small_in_parts: bool,
    at_once: AtOnce,
}

/// Whether a registry takes a blob with the POST, without a session.
///
/// Source: distribution-spec, "Single POST"; registries that do not know it open a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum AtOnce {
    #[default]
    Untried,
    /// One blob is being sent in this form; the others do not wait for the response.
    Trying,
    Taken,
    Refused,
}

impl Learned {
    /// Returns how the upload of a blob begins.
    pub(super) fn plan(&self, blob_bytes: u64) -> UploadPlan {
        if blob_bytes <= SMALL && self.form == UploadForm::Patch && !self.small_in_parts {
            return UploadPlan::Small;
        }
        UploadPlan::new(self.form)
    }

    /// Tells whether a blob may be the one with which it is tried whether bytes are taken with the POST.
    pub(super) fn may_try_at_once(&self, blob_bytes: u64) -> bool {
        self.at_once == AtOnce::Untried
            && blob_bytes <= TRIED_AT_ONCE
            && self.plan(blob_bytes) == UploadPlan::Small
    }

    /// Tells whether the next attempt sends the bytes with the POST; the response is then to be learned.
    pub(super) fn begin_at_once(&mut self, plan: UploadPlan, blob_bytes: u64) -> bool {
        match (plan, self.at_once) {
            (UploadPlan::Small, AtOnce::Taken) => true,
            (UploadPlan::Small, AtOnce::Untried) if blob_bytes <= TRIED_AT_ONCE => {
                self.at_once = AtOnce::Trying;
                true
            }
            _ => false,
        }
    }

    /// Learns whether the bytes were taken with the POST; `None` if the response was about something else.
    pub(super) fn ended_at_once(&mut self, taken: Option<bool>) {
        self.at_once = match (taken, self.at_once) {
            (Some(true), _) => AtOnce::Taken,
            (Some(false), _) => AtOnce::Refused,
            (None, AtOnce::Trying) => AtOnce::Untried,
            (None, other) => other,
        };
    }

    /// Learns from a plan that became another one.
    pub(super) fn changed(&mut self, before: UploadPlan, after: UploadPlan) {
        self.small_in_parts |= before == UploadPlan::Small && after != UploadPlan::Small;
    }
}

/// The form of an upload's requests; remembered for each registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum UploadForm {
    /// One PATCH without a range, then an empty PUT.
    #[default]
    Patch,
    /// Everything in the PUT.
    Monolithic,
    /// PATCHes with ranges, at most so many bytes each.
    Chunked(u64),
}

/// Why a registry refused a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The body is too large (413, 416).
    TooLarge,
    /// The request as such: method, headers, ranges.
    Form,
}

impl UploadForm {
    /// Returns the form to try when this one was refused.
    fn next(self, refusal: Refusal) -> Option<Self> {
        match (self, refusal) {
            (Self::Patch, Refusal::Form) => Some(Self::Monolithic),
            (_, Refusal::Form) => None,
            (Self::Patch | Self::Monolithic, _) => CHUNKS.first().map(|size| Self::Chunked(*size)),
            (Self::Chunked(size), _) => CHUNKS.into_iter().find(|smaller| *smaller < size).map(Self::Chunked),
        }
    }
}

/// What ended an attempt without storing the blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UploadEvent {
    /// The registry refused the form.
    Refused(Refusal),
    /// The registry no longer knows the upload session.
    Lost,
    /// The connection broke in the middle of the body.
    Broken,
    /// The registry answered that it failed.
    Failed,
}

/// How the next attempt sends a blob. Each state counts the failures that lead to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UploadPlan {
    /// A small blob: everything in one request, as long as the registry takes that.
    Small,
    /// In the form that the registry took before or asked for.
    Registry { form: UploadForm, broken: u32, lost: u32 },
    /// In chunks of our choice, because the connection broke twice in the middle of a large body.
    OwnChunks { bytes: u64, lost: u32 },
    /// The registry refused these chunks; the blob is sent whole, or as the registry then asks.
    WithoutOwnChunks { form: UploadForm, lost: u32 },
}

impl UploadPlan {
    /// Begins with the form that the registry took for its last blob.
    pub(super) fn new(form: UploadForm) -> Self {
        Self::Registry { form, broken: 0, lost: 0 }
    }

    /// Returns the form of the next attempt.
    pub(super) fn form(self) -> UploadForm {
        match self {
            Self::Small => UploadForm::Monolithic,
            Self::Registry { form, .. } | Self::WithoutOwnChunks { form, .. } => form,
            Self::OwnChunks { bytes, .. } => UploadForm::Chunked(bytes),
        }
    }

    /// Returns the form to remember for the registry's other blobs after a success; chunks of our choice say nothing
    /// about the registry.
    pub(super) fn proven_form(self) -> Option<UploadForm> {
        match self {
            Self::Small | Self::OwnChunks { .. } => None,
            other => Some(other.form()),
        }
    }

    /// Returns the plan after an attempt that failed; `None` when the registry refused the last form.
    pub(super) fn next(self, event: UploadEvent, blob_bytes: u64) -> Option<Self> {
        match (self, event) {
            (Self::Registry { form: UploadForm::Patch, broken, lost }, UploadEvent::Broken)
                if broken > 0 && blob_bytes >= WORTH_CHUNKING =>
            {
                Some(Self::OwnChunks { bytes: WORTH_CHUNKING, lost })
            }
            (Self::Registry { form, broken, lost }, UploadEvent::Broken) => {
                Some(Self::Registry { form, broken: broken + 1, lost })
            }
            // Some registries fail on a PUT with a body: it is no form that all of them know.
            (Self::Small, UploadEvent::Failed) => Some(Self::new(UploadForm::Patch)),
            (other, UploadEvent::Broken | UploadEvent::Failed) => Some(other),
            (plan, UploadEvent::Lost) => Some(plan.after_lost_session()),
            (plan, UploadEvent::Refused(refusal)) => plan.after_refusal(refusal),
        }
    }

    /// Some registries lose the session of a PATCH each time; one request has none to lose.
    fn after_lost_session(self) -> Self {
        let in_one = |form, lost| match form {
            UploadForm::Patch if lost > 0 => UploadForm::Monolithic,
            other => other,
        };
        match self {
            // Some registries know only docker's form, and answer a PUT with a body as if there were no session.
            Self::Small => Self::new(UploadForm::Patch),
            Self::Registry { form, broken, lost } => {
                Self::Registry { form: in_one(form, lost), broken, lost: lost + 1 }
            }
            Self::OwnChunks { bytes, lost } => Self::OwnChunks { bytes, lost: lost + 1 },
            Self::WithoutOwnChunks { form, lost } => {
                Self::WithoutOwnChunks { form: in_one(form, lost), lost: lost + 1 }
            }
        }
    }

    fn after_refusal(self, refusal: Refusal) -> Option<Self> {
        let next = self.form().next(refusal);
        match (self, next) {
            (Self::Small, next) => Some(Self::new(next.unwrap_or_default())),
            (Self::Registry { broken, lost, .. }, Some(form)) => Some(Self::Registry { form, broken, lost }),
            (Self::OwnChunks { lost, .. }, Some(UploadForm::Chunked(bytes))) => {
                Some(Self::OwnChunks { bytes, lost })
            }
            // Not every registry takes chunks; the blob is then sent whole.
            (Self::OwnChunks { lost, .. }, _) => {
                Some(Self::WithoutOwnChunks { form: UploadForm::Patch, lost })
            }
            (Self::WithoutOwnChunks { lost, .. }, Some(form)) => Some(Self::WithoutOwnChunks { form, lost }),
            (Self::Registry { .. } | Self::WithoutOwnChunks { .. }, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Refusal::{Form, TooLarge};
    use super::UploadEvent::{Broken, Failed, Lost, Refused};
    use super::UploadForm::{Chunked, Monolithic, Patch};
    use super::*;

    #[test]
    fn refused_sizes_lead_to_smaller_chunks_until_none_is_left() {
        let mut form = Patch;
        let mut seen = vec![form];
        while let Some(next) = form.next(TooLarge) {
            form = next;
            seen.push(form);
        }
        let chunks = [64, 16, 8, 4, 1].map(|mib| Chunked(mib * 1024 * 1024));
        assert_eq!(seen, [&[Patch][..], &chunks].concat());
    }

    /// An event, and the form after it; `None` when the refusal is final.
    type Step = (UploadEvent, Option<UploadForm>);

    #[test]
    fn each_failure_leads_to_the_next_form_of_an_upload() {
        let large = 16 * MIB;
        let cases: Vec<(UploadForm, u64, Vec<Step>)> = vec![
            // A refusal of the form leads to one request, then it is final.
            (Patch, 10, vec![(Refused(Form), Some(Monolithic)), (Refused(Form), None)]),
            (Monolithic, 10, vec![(Refused(TooLarge), Some(Chunked(64 * MIB))), (Refused(Form), None)]),
            (Chunked(MIB), 10, vec![(Refused(TooLarge), None)]),
            // The second lost session leads to one request without a session between.
            (Patch, 10, vec![(Lost, Some(Patch)), (Lost, Some(Monolithic)), (Lost, Some(Monolithic))]),
            (Chunked(MIB), 10, vec![(Lost, Some(Chunked(MIB))), (Lost, Some(Chunked(MIB)))]),
            // The second break leads to chunks, but only for a large blob and docker's form.
            (Patch, large, vec![(Broken, Some(Patch)), (Broken, Some(Chunked(large)))]),
            (Patch, large - 1, vec![(Broken, Some(Patch)), (Broken, Some(Patch))]),
            (Monolithic, large, vec![(Broken, Some(Monolithic)), (Broken, Some(Monolithic))]),
            // Chunks of our choice become smaller, and once refused are not chosen again.
            (
                Patch,
                large,
                vec![
                    (Broken, Some(Patch)),
                    (Broken, Some(Chunked(large))),
                    (Broken, Some(Chunked(large))),
                    (Lost, Some(Chunked(large))),
                    (Refused(TooLarge), Some(Chunked(8 * MIB))),
                    (Refused(Form), Some(Patch)),
                    (Broken, Some(Patch)),
                    (Broken, Some(Patch)),
                    (Lost, Some(Monolithic)),
                    (Refused(Form), None),
                ],
            ),
        ];
        for (form, size, events) in cases {
            let mut plan = Some(UploadPlan::new(form));
            for (event, expected) in &events {
                plan = plan.and_then(|plan| plan.next(*event, size));
                assert_eq!(
                    plan.map(UploadPlan::form),
                    *expected,
                    "{form:?}, {size}: {event:?} of {events:?}"
                );
            }
        }
    }

    #[test]
    fn a_small_blob_is_sent_whole_until_the_registry_refuses_that() {
        let mut learned = Learned::default();
        assert_eq!([SMALL, SMALL + 1].map(|size| learned.plan(size).form()), [Monolithic, Patch]);
        assert_eq!(UploadPlan::Small.proven_form(), None, "it says nothing about large ones");
        for (event, expected) in [
            (Broken, UploadPlan::Small),
            (Failed, UploadPlan::new(Patch)),
            (Lost, UploadPlan::new(Patch)),
            (Refused(Form), UploadPlan::new(Patch)),
            (Refused(TooLarge), UploadPlan::new(Chunked(64 * MIB))),
        ] {
            assert_eq!(UploadPlan::Small.next(event, 10), Some(expected), "{event:?}");
        }
        learned.changed(UploadPlan::Small, UploadPlan::Small);
        assert_eq!(learned.plan(10), UploadPlan::Small);
        learned.changed(UploadPlan::Small, UploadPlan::new(Patch));
        assert_eq!(learned.plan(10), UploadPlan::new(Patch));
        let chunked = Learned { form: Chunked(MIB), ..Learned::default() };
        assert_eq!(chunked.plan(10), UploadPlan::new(Chunked(MIB)));
    }

    #[test]
    fn bytes_go_with_the_post_only_where_the_registry_took_one_so() {
        let large = UploadPlan::new(Patch);
        let mut learned = Learned::default();
        assert!(!learned.begin_at_once(UploadPlan::Small, TRIED_AT_ONCE + 1));
        assert_eq!([0, 1].map(|more| learned.may_try_at_once(TRIED_AT_ONCE + more)), [true, false]);
        assert!(!learned.begin_at_once(large, 10));
        assert!(learned.begin_at_once(UploadPlan::Small, TRIED_AT_ONCE));
        assert!(!learned.begin_at_once(UploadPlan::Small, 10), "one at a time");
        assert!(!learned.may_try_at_once(10));
        learned.ended_at_once(None);
        assert!(learned.begin_at_once(UploadPlan::Small, 10), "the response was about credentials");
        learned.ended_at_once(Some(false));
        assert!(!learned.begin_at_once(UploadPlan::Small, 10), "a refused form is not tried again");
        learned.ended_at_once(None);
        assert!(!learned.begin_at_once(UploadPlan::Small, 10));
        learned.ended_at_once(Some(true));
        assert!(learned.begin_at_once(UploadPlan::Small, SMALL));
        assert!(!learned.begin_at_once(large, 10));
    }

    #[test]
    fn chunks_of_our_choice_are_not_remembered_for_the_registry() {
        let own = UploadPlan::OwnChunks { bytes: MIB, lost: 0 };
        assert_eq!(own.proven_form(), None);
        assert_eq!(UploadPlan::new(Monolithic).proven_form(), Some(Monolithic));
        assert_eq!(UploadPlan::WithoutOwnChunks { form: Patch, lost: 0 }.proven_form(), Some(Patch));
    }
}
