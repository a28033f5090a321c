"""OpenAI's Responses over the same questions that chats ask: nothing is kept between two of them."""
