"""Sign-up: over HTTP, to the mail that arrives."""

import asyncio

FORM = {"email": "Grace@Example.com", "password": "a long enough password", "display_name": "Grace"}


async def test_signup_sends_a_welcome_mail(client, mailbox, running_worker):
    response = await client.post("/signup", json=FORM, headers={"X-Request-ID": "signup-1"})
    assert response.status_code == 201
    job_id = response.json()["job_id"]

    job = await client.get(f"/jobs/{job_id}")
    while job.json()["status"] in ("pending", "running"):
        await asyncio.sleep(0.05)
        job = await client.get(f"/jobs/{job_id}")

    assert job.json()["status"] == "completed"
    assert job.json()["result"] == {"status": "sent", "user_email": "grace@example.com"}
    (mail,) = mailbox.messages
    assert mail["To"] == "grace@example.com"
    assert mail["X-Correlation-ID"] == "signup-1"


async def test_signing_up_again_is_the_same_sign_up(client, mailbox):
    first = await client.post("/signup", json=FORM)
    second = await client.post("/signup", json={**FORM, "email": "grace@example.com"})

    assert second.status_code == 201
    assert second.json() == first.json()


async def test_another_password_is_refused(client):
    await client.post("/signup", json=FORM)
    response = await client.post("/signup", json={**FORM, "password": "somebody else's"})

    assert response.status_code == 409
    assert "set-cookie" not in response.headers


async def test_a_wrong_form_is_refused(client):
    response = await client.post("/signup", json={"email": "nobody", "password": "short", "display_name": " "})

    assert response.status_code == 422
    assert {error["loc"][-1] for error in response.json()["detail"]} == {"email", "password", "display_name"}
