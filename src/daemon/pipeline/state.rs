//! A camera's retained state: published when it changes, and now and then for its numbers.

use super::super::slot::CameraFrame;
use super::camera::{Answer, Camera, Published, Told};
use super::{Pipeline, classifier_of};
use crate::clock;
use crate::publish::{CameraState, PublishError, Sight, rfc3339};
use crate::recognizer::Recognition;
use constancy_core::classify::{Debouncer, Decision};
use std::time::{Duration, Instant};

/// How often the numbers of drift and picture are renewed in a state that is otherwise the same.
const RENEW_EVERY: Duration = Duration::from_secs(30);

impl Pipeline {
    /// Publishes the camera's present answer and how well it sees, if they differ from what was published.
    pub(super) fn publish_state(
        &mut self,
        frame: &CameraFrame,
        recognition: &Recognition,
    ) -> Result<(), PublishError> {
        let decision = &recognition.decision;
        let camera = &mut self.cameras[frame.camera];
        let Some(class) = camera.debouncer.current() else {
            return Ok(());
        };
        let sight = camera
            .watch
            .sight(classifier_of(camera.classifier.as_ref(), &self.recognizer));
        let present = Published::Class(class.map(str::to_owned));
        if camera.published.as_ref() != Some(&present) {
            let ts = rfc3339(frame.frame.captured_at.unix_ns);
            camera.answer = Some(answer(class, decision, ts));
        } else if !is_news(camera, &sight, recognition.condition.as_deref()) {
            return Ok(());
        }
        let Some(answer) = &camera.answer else {
            return Ok(());
        };
        self.sink.state(&CameraState {
            schema: 1,
            device: &self.device,
            camera: camera.name(),
            class: Some(&answer.class),
            score: answer.score,
            confidence: answer.confidence,
            known: answer.known,
            sight: sight.clone(),
            condition: recognition.condition.as_deref(),
            proposal: camera.conditions.proposal(),
            reference: camera.watch.reference(),
            ts: answer.ts.clone(),
            fault: None,
        })?;
        camera.published = Some(present);
        camera.told = Some(Told {
            sight,
            condition: recognition.condition.clone(),
            proposal: camera.conditions.proposal().cloned(),
            at: Instant::now(),
        });
        Ok(())
    }

    /// Takes note that a camera does not work: its retained state must not keep naming the last class.
    pub(in super::super) fn fault(
        &mut self,
        index: usize,
        message: &str,
    ) -> Result<(), PublishError> {
        let camera = &mut self.cameras[index];
        // Frames from before the fault say nothing about those after it.
        camera.debouncer = Debouncer::default();
        let present = Published::Fault(message.to_owned());
        if camera.published.as_ref() != Some(&present) {
            self.sink.state(&CameraState {
                schema: 1,
                device: &self.device,
                camera: camera.name(),
                class: None,
                score: None,
                confidence: None,
                known: false,
                sight: Sight::default(),
                condition: None,
                proposal: None,
                reference: camera.watch.reference(),
                ts: rfc3339(clock::now().unix_ns),
                fault: Some(message),
            })?;
            camera.published = Some(present);
        }
        self.answer_picture(index, &Err(message.to_owned()));
        Ok(())
    }
}

/// The answer that a state begins with. An unknown state still names the best class of its first frame.
fn answer(class: Option<&str>, decision: &Decision, ts: String) -> Answer {
    let best = &decision.top[0];
    let named = class.unwrap_or(&best.class);
    Answer {
        class: named.to_owned(),
        score: decision
            .top
            .iter()
            .find(|c| c.class == named)
            .map(|c| c.score),
        confidence: decision.confidence.filter(|_| named == best.class),
        known: class.is_some(),
        ts,
    }
}

/// Whether what was told beside the answer is to be told anew.
fn is_news(camera: &Camera, now: &Sight, condition: Option<&str>) -> bool {
    camera.told.as_ref().is_none_or(|told| {
        let before = &told.sight;
        let changed = (before.light, before.camera_health) != (now.light, now.camera_health)
            || told.condition.as_deref() != condition
            || told.proposal.as_ref() != camera.conditions.proposal();
        changed || (before != now && told.at.elapsed() >= RENEW_EVERY)
    })
}
